"""Reading alone: one line of 5 GB, and a million small files."""

import json
import shutil
import sys
import time
from pathlib import Path

from experiments.preparation.sizes import ROOT, columns
from experiments.preparation.table import Table
from experiments.preparation.watch import watch
from glam.config import DataConfig, LocalCorpusConfig
from glam.data.digests import digests_in
from glam.data.divided import DividedText
from glam.data.documents import units_of
from glam.data.sources import checked_sources

LINE_MB, FILES, FOLDER = 5000, 1_000_000, 1000
_BLOCK = b"one line of words without an end, and on it goes " * 20_000
_GOOD = 1000  # short lines around the long one, so that it is a small share of the records


def line(scratch: Path) -> None:
    """As text, which is cut into sections, and as JSON, where it is one bad record."""
    table = Table("line")
    for name in ("line.txt", "line.jsonl"):
        if table.has(file=name):
            continue
        folder = scratch / "line"
        folder.mkdir(parents=True)
        _write_line(folder / name)
        table.add({"file": name, "megabytes": LINE_MB, **_read(folder)})
        shutil.rmtree(folder)


def _write_line(path: Path) -> None:
    good = b'{"text": "a short line"}\n' * _GOOD
    is_json = path.suffix == ".jsonl"
    with path.open("wb") as file:
        file.write(good + b'{"text": "' if is_json else b"")
        for _ in range(round(LINE_MB * 1e6 / len(_BLOCK))):
            file.write(_BLOCK)
        file.write(b'"}\n' + good if is_json else b"\n")


def files(scratch: Path) -> None:
    """Small files in folders of a thousand each."""
    table = Table("files")
    if table.has(files=FILES):
        return
    folder = scratch / "files"
    for number in range(FILES // FOLDER):
        (inner := folder / f"{number:04d}").mkdir(parents=True)
        for file in range(FOLDER):
            (inner / f"{file:04d}.txt").write_text(f"file {file} of folder {number}, and its words")
    table.add({"files": FILES, **_read(folder)})
    shutil.rmtree(folder)


def _read(folder: Path) -> dict[str, object]:
    """Of a process that lists and reads the files of a folder; `..._s` are its CPU seconds."""
    cache = folder.with_name("cache")
    found = watch(
        [sys.executable, "-m", "experiments.preparation.reading", *map(str, (folder, cache))], ROOT
    )
    shutil.rmtree(cache)
    return {**json.loads(found.output.splitlines()[-1]), **columns(found)}


def _timed(folder: Path, cache: Path) -> dict[str, float]:
    corpus = LocalCorpusConfig(files=[str(folder)])
    data, taken, last = (
        DataConfig(corpus=corpus, workers=1),
        dict[str, float](),
        time.process_time(),
    )
    data.filter.name = "none"

    def end(stage: str) -> None:
        nonlocal last
        now = time.process_time()
        taken[f"{stage}_s"], last = round(now - last, 2), now

    sources = checked_sources(data)
    end("listed")
    units_of(sources, digests := digests_in(cache))
    digests.save()
    end("hashed")
    _ = DividedText(data, cache).index
    end("read")
    return taken


if __name__ == "__main__":
    print(json.dumps(_timed(Path(sys.argv[1]), Path(sys.argv[2]))))
