"""The whole recipe by the size of the text: `python run.py task=prepare` on 100 MB to 5 GB."""

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from experiments.preparation.table import HERE, Table
from experiments.preparation.text import write_text
from experiments.preparation.watch import Use, watch

ROOT = HERE.parents[1]
SIZES = (100, 300, 1100, 5000)  # MB of web pages; a tenth as much curated text comes to it
RECIPES = {"filtered": SIZES, "unfiltered": SIZES[:3]}  # the choices of `data`
_LOOK = 1.0  # seconds between looks at the disk


def main(scratch: Path, sizes: Sequence[int] = SIZES) -> None:
    """Rows of `sizes.csv` and `stages.csv`. Text and cache are written to `scratch`, and taken
    away."""
    table = Table("sizes")
    for size in sizes:
        folder = scratch / str(size)
        for recipe, its in RECIPES.items():
            if size in its and not table.has(recipe=recipe, megabytes=size):
                write_text(folder, size)
                _measure(table, folder, recipe, size)
        shutil.rmtree(folder, ignore_errors=True)


def _measure(table: Table, text: Path, recipe: str, size: int) -> None:
    cache = text / f"cache-{recipe}"
    shutil.rmtree(cache, ignore_errors=True)
    with _disk(cache) as most:
        found = watch(command(text, cache, recipe), ROOT)
    read = sum(path.stat().st_size for path in text.glob("*/*.jsonl"))
    key = {"recipe": recipe, "megabytes": size}
    stages = Table("stages")
    stages.leave_out(**key)
    for name, use in found.stages.items():
        stages.add({**key, "stage": name, **columns(use)})
    table.add(
        {
            **key,
            "text_mb": read / 1e6,
            **columns(found),
            "largest_in": found.largest_stage,
            "disk_mb": most[0] / 1e6,
        }
    )
    shutil.rmtree(cache)


def columns(use: Use) -> dict[str, object]:
    """Of a row."""
    return {
        "wall_s": use.wall_s,
        "cpu_s": use.cpu_s,
        "largest_mb": use.largest / 1e6,
        "together_mb": use.together / 1e6,
    }


def command(text: Path, cache: Path, recipe: str) -> list[str]:
    """What a user types."""
    return [
        *(sys.executable, "run.py", "task=prepare", f"data={recipe}", "data/corpus=local"),
        f"data.corpus.files=[{text}/web/]",
        f"data.corpus.curated=[{text}/curated/]",
        *(f"cache_dir={cache}", f"runs_dir={cache}/runs"),
    ]


@contextmanager
def _disk(folder: Path) -> Generator[list[int]]:
    """The most bytes that lie in a folder meanwhile."""
    most, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK):
            most[0] = max(most[0], _bytes_in(folder))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()
        most[0] = max(most[0], _bytes_in(folder))


def _bytes_in(folder: Path) -> int:
    """Of all its files; what is renamed or taken away meanwhile counts or does not."""
    found = 0
    for inside, _, names in os.walk(folder):  # which passes over a folder that is gone
        for name in names:
            with contextlib.suppress(OSError):
                found += (Path(inside) / name).stat().st_size
    return found
