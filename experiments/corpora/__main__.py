"""`python -m experiments.corpora OUT MEGABYTES SHARDS [SEED]`: write a corpus, and what is known of
it. Memory is constant in its size."""

import argparse
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TextIO

from rich.progress import track

from experiments.corpora.generate import Corpus

CURATED = 0.1  # megabytes of curated text to one of web pages


def main(folder: Path, size: float, shards: int, seed: int = 0) -> None:
    """Write `shards` files of `size` megabytes of web pages in all, and what is known of them."""
    corpus = Corpus(size, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "truth.jsonl").open("w") as truth:
        planted = set[int]()
        pages = _pages(corpus, truth, planted)
        numbers = range(shards)
        for shard in track(numbers, f"{size:g} MB of web pages"):
            _fill(folder / "web" / f"web-{shard:04d}.jsonl", size * 1e6 / len(numbers), pages)
    _fill(folder / "curated" / "books.jsonl", CURATED * size * 1e6, _curated(corpus))
    with (folder / "items.jsonl").open("w") as file:
        for index, item in enumerate(corpus.items):
            row = {"id": index, "source": item.source, "text": item.text}
            _line(file, {**row, "planted": index in planted})


def _pages(corpus: Corpus, truth: TextIO, planted: set[int]) -> Iterator[dict[str, object]]:
    """Rows of pages; `planted` gathers the items that stand in them."""
    for index in count():
        page = corpus.page(index)
        planted.update(page.items)
        known = {key: value for key, value in vars(page).items() if key != "text" and value}
        _line(truth, {"id": index, **known, "origin": page.origin})
        yield {"text": page.text, "id": index, "genre": page.genre}


def _curated(corpus: Corpus) -> Iterator[dict[str, object]]:
    for index in count():
        genre, text = corpus.curated(index)
        yield {"text": text, "id": index, "genre": genre}


def _fill(path: Path, size: float, rows: Iterator[dict[str, object]]) -> None:
    path.parent.mkdir(exist_ok=True)
    written = 0
    with path.open("w") as file:
        while written < size:
            written += _line(file, next(rows))


def _line(file: TextIO, row: dict[str, object]) -> int:
    """Bytes written, about."""
    return file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m experiments.corpora", description=__doc__)
    parser.add_argument("out", type=Path, help="a folder")
    parser.add_argument("megabytes", type=float, help="of web pages")
    parser.add_argument("shards", type=int, help="files that they are in")
    parser.add_argument("seed", type=int, nargs="?", default=0)
    typed = parser.parse_args()
    main(typed.out, typed.megabytes, typed.shards, typed.seed)
