"""`python -m experiments.contamination`: what of planted items is found in ten megabytes of text,
whether all that is flagged stands there word for word, and what half of it costs, beside what
allenai/decon publishes. `cost` measures the cost alone."""

import csv
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.corpora.generate import Corpus
from glam.data import scan
from glam.data.contamination import (
    EvaluationItem,
    EvaluationItems,
    Hits,
    ItemNgrams,
    contamination_hits,
    item_ngrams,
    overlap_of,
)
from glam.machine.processor import processor

FOLDER = Path(__file__).parent
MEGABYTES, COST_MEGABYTES = 10.0, 5.0
DECON = 34.0  # microseconds a document, as its README publishes; on another machine and other text
SHORT = (5, 8, 12)  # words of an item's beginning, items of their own
WORD = re.compile(r"[^\W_]+")


def main(what: str = "all") -> None:
    corpus = Corpus(MEGABYTES)
    whole = [item.text for item in corpus.items]
    tasks = {"whole": whole} | {
        f"first {n} words": [" ".join(text.split()[:n]) for text in whole] for n in SHORT
    }
    if what != "cost":
        _write("recall.csv", _recall(corpus, tasks))
    texts, _ = _pages(corpus, COST_MEGABYTES * 1e6)
    every = item_ngrams([EvaluationItems.of(n, _items(n, each)) for n, each in tasks.items()])
    tables = {"whole items": _ngrams("whole", whole), "all four lengths": every}
    _write(
        "cost.csv",
        [
            {"n-grams of": name, "code": code} | _cost(texts, table, switch)
            for name, table in tables.items()
            for code, switch in (("C", nullcontext), ("numpy", _Fallback))
        ],
    )


def _recall(corpus: Corpus, tasks: dict[str, list[str]]) -> list[dict[str, Any]]:
    texts, planted = _pages(corpus, MEGABYTES * 1e6)
    is_planted = np.isin(np.arange(len(corpus.items)), sorted(planted))
    in_words = [_words(text) for text in texts]
    rows: list[dict[str, Any]] = []
    for name, items in tasks.items():
        known = _ngrams(name, items)
        hits = contamination_hits(texts, known.table)
        rows.append({"items": name} | _found(known, hits, items, is_planted, in_words))
    return rows


def _pages(corpus: Corpus, size: float) -> tuple[list[str], set[int]]:
    """Pages of so many bytes, and the items that stand in them."""
    texts: list[str] = []
    planted = set[int]()
    while size > 0:
        page = corpus.page(len(texts))
        texts.append(page.text)
        planted.update(page.items)
        size -= len(page.text.encode())
    return texts, planted


def _items(name: str, items: Sequence[str]) -> list[EvaluationItem]:
    return [EvaluationItem(name, number, (text,)) for number, text in enumerate(items)]


def _ngrams(name: str, items: Sequence[str]) -> ItemNgrams:
    return item_ngrams([EvaluationItems.of(name, _items(name, items))])


def _found(
    known: ItemNgrams,
    hits: Hits,
    items: Sequence[str],
    planted: NDArray[np.bool_],
    texts: Sequence[list[str]],
) -> dict[str, Any]:
    found = overlap_of(known, [hits])
    [task] = known.tasks
    dirty = found.dirty(task.suite)[task.task]
    there = _word_for_word(items, task.n, texts)
    return {
        "n": task.n,
        "planted": int(planted.sum()),
        "planted found": int((dirty & planted).sum()),
        "recall": round(float(dirty[planted].mean()), 4),
        "recall without common phrases": round(float(found.rare[planted].mean()), 4),
        "others flagged": int((dirty & ~planted).sum()),
        "flagged": int(dirty.sum()),
        "of them word for word in the text": int((dirty & there).sum()),
        "in the text and not flagged": int((there & ~dirty).sum()),
    }


def _word_for_word(items: Sequence[str], n: int, texts: Sequence[list[str]]) -> NDArray[np.bool_]:
    """Which items have an n-gram that is in the text, compared word by word."""
    owners: dict[tuple[str, ...], set[int]] = {}
    for number, item in enumerate(items):
        words = _words(item)
        for gram in _grams(words, min(n, len(words))):
            owners.setdefault(gram, set()).add(number)
    found = set[int]()
    for size in {len(gram) for gram in owners}:
        for words in texts:
            for gram in _grams(words, size):
                found |= owners.get(gram, set())
    return np.isin(np.arange(len(items)), sorted(found))


def _grams(words: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(size)), strict=False)


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _cost(
    texts: Sequence[str], known: ItemNgrams, switch: Callable[[], AbstractContextManager[Any]]
) -> dict[str, Any]:
    """CPU time of this process, the best of three."""
    size = sum(len(text.encode()) for text in texts)
    seconds: list[float] = []
    with switch():
        contamination_hits(texts[:10], known.table)
        for _ in range(3):
            began = time.process_time()
            contamination_hits(texts, known.table)
            seconds.append(time.process_time() - began)
    each = 1e6 * min(seconds) / len(texts)
    return {
        "n-grams": len(known.table.keys),
        "lengths": len(known.table.sizes),
        "documents": len(texts),
        "megabytes": round(size / 1e6, 1),
        "seconds": round(min(seconds), 3),
        "megabytes per second": round(size / 1e6 / min(seconds), 1),
        "microseconds per document": round(each, 1),
        "times decon's published 34": round(each / DECON, 2),
        "processor": processor().name,
    }


class _Fallback:
    """The definition in numpy in the place of the kernel."""

    def __enter__(self) -> None:
        self._library = scan.text_library
        scan.text_library = lambda: None

    def __exit__(self, *_: object) -> None:
        scan.text_library = self._library


def _write(name: str, rows: list[dict[str, Any]]) -> None:
    with (FOLDER / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    run: Callable[..., None] = main
    run(*sys.argv[1:])
