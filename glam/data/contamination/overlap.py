"""What the hits of all training text say of each item and task."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.data.contamination.hits import Hits
from glam.data.contamination.ngrams import ItemNgrams, TaskItems

COMMON = 10  # documents; an n-gram in more of them is a common phrase (GPT-3, appendix C)


@dataclass(frozen=True, eq=False)
class Overlap:
    """Items beside the training text, `[items]` each, task after task: whether it has an n-gram of
    theirs that is a common phrase, or one that is none, and which share of their n-grams it has.
    And in how many training documents each n-gram stands `[n-grams]`."""

    tasks: list[TaskItems]
    rare: NDArray[np.bool_]
    common: NDArray[np.bool_]
    covered: NDArray[np.float64]
    documents: NDArray[np.int64]

    @property
    def rare_ngrams(self) -> NDArray[np.bool_]:
        """Those that stand in the training text and are no common phrases."""
        return _are_rare(self.documents)

    def dirty(self, suite: str, *, removed: bool = False) -> dict[str, NDArray[np.bool_]]:
        """By task of a suite, whether each item overlaps `[items]`; with what is `removed`, by
        common phrases alone."""
        found = self.common if removed else self.rare | self.common
        return {task.task: found[mine] for task, mine in self._each() if task.suite == suite}

    def report(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By suite and task, as files have it."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        dirty = self.rare | self.common
        for task, mine in self._each():
            found.setdefault(task.suite, {})[task.task] = {
                "n": task.n,
                "items": task.items,
                "dirty": int(dirty[mine].sum()),
                "share": float(dirty[mine].mean()),
                "rare": int(self.rare[mine].sum()),
                "common": int(self.common[mine].sum()),
                "ngrams_found": float(self.covered[mine].mean()),
            }
        return found

    def _each(self) -> Iterator[tuple[TaskItems, slice]]:
        first = 0
        for task in self.tasks:
            yield task, slice(first, first := first + task.items)

    def save(self, folder: Path) -> None:
        """Write all of it into `folder`."""
        np.savez(folder / "items.npz", rare=self.rare, common=self.common, covered=self.covered)
        np.save(folder / "documents.npy", self.documents)
        (folder / "tasks.json").write_text(json.dumps([list(t) for t in self.tasks]))

    @classmethod
    def read(cls, folder: Path) -> "Overlap":
        """What `save` wrote."""
        tasks = [TaskItems(*task) for task in json.loads((folder / "tasks.json").read_text())]
        with np.load(folder / "items.npz") as found:
            arrays = [found[name] for name in ("rare", "common", "covered")]
        return cls(tasks, *arrays, documents=np.load(folder / "documents.npy"))


def overlap_of(items: ItemNgrams, parts: Iterable[Hits]) -> Overlap:
    """The overlap with training text, from the hits of each of its parts."""
    documents = np.zeros(len(items.table.keys), np.int64)
    for hits in parts:
        documents += np.bincount(hits.places, minlength=len(documents))
    rare = _per_item(_are_rare(documents), items)
    common = _per_item(documents > COMMON, items)
    covered = (rare + common) / np.maximum(np.diff(items.starts), 1)
    return Overlap(items.tasks, rare > 0, common > 0, covered, documents)


def _are_rare(documents: NDArray[np.int64]) -> NDArray[np.bool_]:
    return (documents > 0) & (documents <= COMMON)


def _per_item(chosen: NDArray[np.bool_], items: ItemNgrams) -> NDArray[np.int64]:
    """How many of each item's n-grams are among the chosen ones `[items]`."""
    before = np.concatenate([[0], np.cumsum(chosen[items.places])])
    return np.diff(before[items.starts])
