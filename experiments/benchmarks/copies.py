"""Signatures, copies and n-grams of evaluation items: megabytes a second of one core, ours beside
datatrove, rensa and datasets on the same text."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.corpora.generate import Corpus
from glam.config import DedupConfig
from glam.data.cleaned import cleaned
from glam.data.dedup import Signed, write_copies
from glam.data.scan import NgramTable, ngram_hashes, scan, word_hashes
from glam.kernels import switched_off

MEGABYTES, ROUNDS = 20, 3
SIZES = (8, 13)  # words of the n-grams of evaluation items
PEERS = Path(os.environ.get("GLAM_PEERS", ".venv-peers/bin/python"))  # `make bench` builds it
Seconds = dict[tuple[str, str], list[float]]  # by task and candidate, a number a round


def measure() -> Iterator[dict[str, object]]:
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "text" / "web.jsonl"
        corpus = Corpus(MEGABYTES)
        texts = _write(file, corpus)
        table = _table([item.text for item in corpus.items])
        taken: Seconds = {}
        told: dict[str, int] = {}
        for number in range(ROUNDS):
            scratch = Path(name) / str(number)
            scratch.mkdir()
            _ours(texts, table, scratch, taken, told)
            _datasets(file, taken, told)
            for peer in ("rensa", "datatrove"):
                _peer(peer, file, taken, told)
    size = sum(len(text.encode()) for text in texts) / 1e6
    yield from _rows(taken, told, size, len(texts))


def _write(file: Path, corpus: Corpus) -> list[str]:
    texts: list[str] = []
    size = 0
    while size < MEGABYTES * 1e6:
        texts.append(corpus.page(len(texts)).text)
        size += len(texts[-1].encode())
    file.parent.mkdir()
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return texts


def _table(items: list[str]) -> NgramTable:
    words = [word_hashes(text) for text in items]
    return NgramTable.of(SIZES, np.concatenate([ngram_hashes(w, n) for w in words for n in SIZES]))


def _ours(
    texts: list[str], table: NgramTable, folder: Path, taken: Seconds, told: dict[str, int]
) -> None:
    dedup = DedupConfig()
    scan(texts[:10], dedup, table)  # the kernel is compiled when it is first met

    def timed(task: str, work: Callable[[], Any], candidate: str = "ours") -> Any:
        start = time.process_time()
        result = work()
        taken.setdefault((task, candidate), []).append(time.process_time() - start)
        return result

    timed("signature and n-grams", lambda: scan(texts, dedup, table))
    timed("n-grams alone", lambda: scan(texts, None, table))
    bands = timed("signature", lambda: scan(texts, dedup, None)).bands
    with switched_off():
        some = texts[: len(texts) // 10]
        timed("signature", lambda: scan(some, dedup, None), "ours without a compiler")
        taken["signature", "ours without a compiler"][-1] *= len(texts) / len(some)
    hashes = timed("equal copies", lambda: cleaned(texts)[0].hashes)
    np.save(folder / "bands.npy", bands)
    np.save(folder / "hashes.npy", hashes)
    for task, file in (("equal copies", None), ("copies from signatures", folder / "bands.npy")):
        out = folder / task
        out.mkdir()
        signed = [Signed(folder / "hashes.npy", file, 2)]
        start = time.process_time()
        write_copies(out, signed, dedup)
        seconds = time.process_time() - start
        if file:
            taken.setdefault((task, "ours"), []).append(seconds)
        else:
            taken[task, "ours"][-1] += seconds
        told[f"{task}/ours"] = int((np.load(out / "0.npy") > 0).sum())


def _datasets(file: Path, taken: Seconds, told: dict[str, int]) -> None:
    """Equal texts by a set of hashes in `filter`, as its course shows."""
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        rows: Any = datasets.load_dataset(
            "json", data_files=str(file), split="train", cache_dir=cache
        )
        seen: set[int] = set()
        start = time.process_time()

        def is_new(row: dict[str, str]) -> bool:
            name = hash(row["text"])
            return name not in seen and not seen.add(name)

        kept = rows.filter(is_new, load_from_cache_file=False)
        taken.setdefault(("equal copies", "datasets"), []).append(time.process_time() - start)
        told["equal copies/datasets"] = len(rows) - len(kept)


def _peer(name: str, file: Path, taken: Seconds, told: dict[str, int]) -> None:
    if (found := peer(name, file)) is None:
        return
    candidate = f"{name} {found['version']}"
    for stage, task in (("signature", "signature"), ("copies", "copies from signatures")):
        taken.setdefault((task, candidate), []).append(found["seconds"][stage])
    told[f"copies from signatures/{candidate}"] = found["told"]


def peer(name: str, file: Path) -> dict[str, Any] | None:
    """CPU seconds by stage, copies and version of a peer; None, and a line that says why, where
    it cannot run."""
    script = Path(__file__).with_name("copies_peers.py")
    command = [str(PEERS), str(script), name, str(file)]
    try:
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
        print(f"no row of {name}: {lines[-1]}", file=sys.stderr)
        return None
    return json.loads(ran.stdout.splitlines()[-1])


def _rows(
    taken: Seconds, told: dict[str, int], size: float, documents: int
) -> Iterator[dict[str, object]]:
    for task in dict.fromkeys(task for task, _ in taken):
        reference = taken[task, "ours"]
        for (mine, candidate), seconds in taken.items():
            if mine != task:
                continue
            ratios = [a / b for a, b in zip(seconds, reference, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            cpu = statistics.median(seconds)
            yield {
                "task": task,
                "candidate": candidate,
                "MB/s": size / cpu,
                "us_a_document": 1e6 * cpu / documents,
                "times_ours": middle,
                "low": low,
                "high": high,
                "megabytes": size,
                "documents": documents,
                "told": told.get(f"{task}/{candidate}", ""),
            }
