"""The n-grams of evaluation items, and which item each belongs to.

The length is GPT-3's rule (arXiv 2005.14165, appendix C), which GLaM follows: the fifth percentile
of a task's items in words, within 8 and 13. A stretch of fewer words is looked for whole, down to
8; of an item that has none of 8 words, all of its words together.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.data.contamination.items import EvaluationItems
from glam.data.scan import Hashes, NgramTable, ngram_hashes, word_hashes

LONGEST, SHORTEST, PERCENTILE = 13, 8, 5  # [words], [words], of the items' words
_PASSAGES = (
    64  # whose words are kept: questions on one passage have it in common, one after another
)


class TaskItems(NamedTuple):
    """A task: its n-grams' length in words, and how many items it has."""

    suite: str
    task: str
    n: int
    items: int


@dataclass(frozen=True, eq=False)
class ItemNgrams:
    """N-grams of items in the order of `tasks`: item `i` has those at
    `places[starts[i] : starts[i + 1]]` among `table.keys`, each once."""

    table: NgramTable
    tasks: list[TaskItems]
    starts: NDArray[np.int64]
    places: NDArray[np.int64]

    def save(self, folder: Path) -> None:
        """Write all of it into `folder`."""
        arrays = {"keys": self.table.keys, "starts": self.starts, "places": self.places}
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        found = {"sizes": list(self.table.sizes), "tasks": [list(task) for task in self.tasks]}
        (folder / "tasks.json").write_text(json.dumps(found), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "ItemNgrams":
        """What `save` wrote."""
        keys, starts, places = (np.load(folder / f"{n}.npy") for n in ("keys", "starts", "places"))
        found = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
        tasks = [TaskItems(*task) for task in found["tasks"]]
        return cls(NgramTable.of(found["sizes"], keys), tasks, starts, places)


def item_ngrams(sets: Sequence[EvaluationItems]) -> ItemNgrams:
    """The n-grams of the items of all sets."""
    words = lru_cache(_PASSAGES)(word_hashes)
    tasks: list[TaskItems] = []
    sizes: set[int] = set()
    of_items: list[Hashes] = []
    for suite in sets:
        for task, items in groupby(suite.load(), key=lambda item: item.task):
            stretches = [[words(text) for text in item.stretches] for item in items]
            n = ngram_length([sum(map(len, each)) for each in stretches])
            tasks.append(TaskItems(suite.suite, task, n, len(stretches)))
            of_items += [_of_item(each, n, sizes) for each in stretches]
    every = np.concatenate([_NONE, *of_items])
    keys, places = np.unique(every, return_inverse=True)
    starts = np.cumsum([0, *map(len, of_items)])
    return ItemNgrams(NgramTable.of(sorted(sizes), keys), tasks, starts, places)


def ngram_length(words: Sequence[int]) -> int:
    """Of the n-grams of a task whose items have so many words."""
    return int(np.clip(np.percentile(words, PERCENTILE), SHORTEST, LONGEST))


_NONE = np.zeros(0, np.uint64)


def _of_item(stretches: Sequence[Hashes], n: int, sizes: set[int]) -> Hashes:
    """The n-grams of an item, each once; `sizes` takes up their lengths."""
    long = [words for words in stretches if len(words) >= SHORTEST]
    whole = [] if long else [np.concatenate([_NONE, *stretches])]
    found: list[Hashes] = []
    for words in (*long, *whole):
        if size := min(n, len(words)):
            sizes.add(size)
            found.append(ngram_hashes(words, size))
    return np.unique(np.concatenate([_NONE, *found]))
