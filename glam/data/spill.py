"""Records of two numbers on disk, in partitions by their key, each about as large as memory may
hold."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RECORDS = 1 << 21  # of a partition, about, and of what is read of one at once

Keys = NDArray[np.uint64]  # [records]
Numbers = NDArray[np.int64]  # [records]


class Spill:
    """Partitions by ranges of a key below 2**64, with room for about `records`."""

    def __init__(self, folder: Path, records: int) -> None:
        folder.mkdir()
        self._folder = folder
        self.count = max(1, -(-records // RECORDS))

    def add(self, keys: Keys, numbers: Numbers) -> None:
        """Append records; those of one key stay in the order in which they are added."""
        places = ((keys >> np.uint64(32)) * np.uint64(self.count)) >> np.uint64(32)
        order = np.argsort(places.astype(np.int32), kind="stable")
        records = np.stack([keys[order], numbers[order].view(np.uint64)], 1)
        ends = np.cumsum(np.bincount(places.astype(np.int64), minlength=self.count))
        for place, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            if start < end:
                with (self._folder / str(place)).open("ab") as file:
                    records[start:end].tofile(file)

    def blocks(self, place: int) -> Iterator[tuple[Keys, Numbers]]:
        """A partition's records in the order in which they were added, at most RECORDS at once;
        the file is removed behind them."""
        path = self._folder / str(place)
        if not path.exists():
            return
        with path.open("rb") as file:
            while len(read := np.fromfile(file, np.uint64, 2 * RECORDS)):
                yield read[::2].copy(), read[1::2].view(np.int64).copy()
        path.unlink()


def repeats(blocks: Iterator[tuple[Keys, Numbers]]) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
    """Of records whose key came before, given in ascending order of their numbers: the number, the
    key's first number, and one of the key's before this one. Holds every key of the blocks once."""
    known, firsts_known = np.empty(0, np.uint64), np.empty(0, np.int64)
    for keys, numbers in blocks:
        order = np.argsort(keys, kind="stable")
        keys, numbers = keys[order], numbers[order]
        new = np.ones(len(keys), bool)
        new[1:] = keys[1:] != keys[:-1]
        heads, firsts = keys[new], numbers[new]
        at = np.searchsorted(known, heads)
        is_known = np.zeros(len(heads), bool)
        inside = at < len(known)
        is_known[inside] = known[at[inside]] == heads[inside]
        firsts[is_known] = firsts_known[at[is_known]]
        first = firsts[np.cumsum(new) - 1]
        before = np.where(new, first, np.roll(numbers, 1))
        again = numbers != first
        yield numbers[again], first[again], before[again]
        known = np.insert(known, at[~is_known], heads[~is_known])
        firsts_known = np.insert(firsts_known, at[~is_known], firsts[~is_known])
