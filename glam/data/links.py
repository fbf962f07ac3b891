"""Which of many documents links connect: sets of which each is known by its lowest number."""

from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_WRITTEN = 1 << 20  # numbers at once

Numbers = NDArray[np.int64]


class Links:
    """Documents 0 up to below `total`, of which none is linked yet. Each has the number of another
    of its set that is lower, or its own, in a mapped file of 8 bytes a document: pages of it that
    are not in use the system may take back."""

    def __init__(self, path: Path, total: int) -> None:
        with path.open("wb") as file:  # whole at once: a disk that is full is noticed here
            for start in range(0, total, _WRITTEN):
                np.arange(start, min(total, start + _WRITTEN)).tofile(file)
        self._lower: NDArray[np.int64] = np.memmap(path, np.int64, "r+", shape=(total,))

    def lowest(self, documents: Numbers) -> Numbers:
        """The lowest number of each document's set."""
        found = self._lower[documents]
        while len(changing := np.flatnonzero((lower := self._lower[found]) != found)):
            found[changing] = lower[changing]
        self._lower[documents] = found  # a shorter way for the next time
        return found

    def apart(self, first: Numbers, second: Numbers) -> NDArray[np.bool_]:
        """Which pairs are of different sets."""
        return self.lowest(first) != self.lowest(second)

    def add(self, first: Numbers, second: Numbers) -> None:
        """Connect pairs."""
        count = len(first)
        ends = np.concatenate([self.lowest(first), self.lowest(second)])
        nodes, index = np.unique(ends, return_inverse=True)
        labels = _components(index[:count], index[count:], len(nodes))
        _, lowest = np.unique(labels, return_index=True)  # the first of each, and nodes ascend
        self._lower[nodes] = nodes[lowest[labels]]

    def is_linked(self, start: int, end: int) -> NDArray[np.bool_]:
        """Of the documents from `start` up to below `end` those with a lower one in their set."""
        return self._lower[start:end] != np.arange(start, end)


def _components(first: Numbers, second: Numbers, total: int) -> Numbers:
    """The number of each node's component."""
    sparse = import_module("scipy.sparse")  # half a second; it comes without types
    graph = sparse.coo_matrix((np.ones(len(first), bool), (first, second)), (total, total))
    return import_module("scipy.sparse.csgraph").connected_components(graph, directed=False)[1]
