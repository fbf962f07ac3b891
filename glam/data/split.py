"""Held-out documents, set apart before anything else looks at the text.

`<shard>.npy` tells of each document where it goes, as one of the numbers below. Documents of a
domain are held out in the order of their draws, whatever shards they lie in; of a whole corpus only
the sums of sizes over ranges of draws are in memory.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.config import Role
from glam.data.hashing import uniform
from glam.data.shards import Shard

VERSION = 2
TRAINING, HELD_OUT, EXACT_COPY, NEAR_COPY = range(4)
_BINS = 1 << 16  # ranges of draws

Sizes = list[int]  # documents, characters, bytes


class _Drawn(NamedTuple):
    """Documents of a shard that may be held out, `[documents]` each."""

    indices: NDArray[np.int64]
    draws: NDArray[np.float64]
    sizes: NDArray[np.int64]  # [characters]


@dataclass(frozen=True)
class Divided:
    """A shard to divide: its folder, `copies` as `write_copies` left it (0 stays, 1 is an exact
    copy, 2 a near one), and the number of its domain."""

    folder: Path
    copies: Path
    domain: int


@dataclass(frozen=True)
class Sides:
    """Ascending indices of a shard's documents; copies are on neither side."""

    training: NDArray[np.int64]
    held_out: NDArray[np.int64]

    @classmethod
    def read(cls, path: Path) -> "Sides":
        """Those of a shard whose `<shard>.npy` is `path`."""
        sides = np.load(path)
        return cls(np.flatnonzero(sides == TRAINING), np.flatnonzero(sides == HELD_OUT))


def write_sides(
    folder: Path, shards: Sequence[Divided], roles: Sequence[Role], fraction: float, seed: int
) -> None:
    """Whole documents of each domain on two sides: `fraction` of its text is held out, or all of
    a domain that is held out altogether, or nothing of a single document. `counts.json` has the
    sizes by domain: what was read, what is no copy, and each side."""
    counts: list[dict[str, Sizes]] = [{} for _ in roles]
    for domain, role in enumerate(roles):
        mine = [(place, shard) for place, shard in enumerate(shards) if shard.domain == domain]
        held_out = _HeldOut([shard for _, shard in mine], role, fraction, seed)
        for place, shard in mine:
            sides = np.load(shard.copies)
            sides = np.where(sides == 0, TRAINING, sides + (EXACT_COPY - 1)).astype(np.uint8)
            sides[held_out.of(shard)] = HELD_OUT
            np.save(folder / f"{place}.npy", sides)
            _count(counts[domain], Shard(shard.folder), sides)
    (folder / "counts.json").write_text(json.dumps(counts))


class _HeldOut:
    """Which documents of a domain are held out.

    Those in the order of their draws, until `fraction` of the text is. A count of documents would
    not do: the books of scripture differ a hundredfold in length. With two documents or more both
    sides get one, for `fraction` is at most a half."""

    def __init__(self, shards: Sequence[Divided], role: Role, fraction: float, seed: int) -> None:
        self._all, self._seed = role == "held_out", seed
        self._last, self._among = _BINS, dict[Path, NDArray[np.int64]]()
        # A document that is most of its domain is better trained on.
        self._most = np.inf
        if not self._all:
            total = sum(int(sizes.sum()) for _, _, sizes in self._each(shards))
            self._most = total / 2
            self._choose(shards, fraction * total)

    def of(self, shard: Divided) -> NDArray[np.int64]:
        """Ascending indices of a shard's documents."""
        [(indices, draws, _)] = self._each([shard])
        if self._all:
            return indices
        whole = indices[_bins(draws) < self._last]
        return np.union1d(whole, self._among.get(shard.folder, whole[:0]))

    def _choose(self, shards: Sequence[Divided], target: float) -> None:
        """Find the range of draws in which enough is held out, and the documents within it."""
        sums = np.zeros(_BINS)
        for _, draws, sizes in self._each(shards):
            sums += np.bincount(_bins(draws), sizes, _BINS)  # whole numbers, exact below 2**53
        held = np.cumsum(sums)
        self._last = int(np.searchsorted(held, target))
        if self._last == _BINS:
            return
        before = held[self._last] - sums[self._last]
        found = [self._in_last(shard) for shard in shards]
        draws = np.concatenate([each.draws for each in found])
        sizes = np.concatenate([each.sizes for each in found])
        order = np.argsort(draws, kind="stable")
        taken = np.zeros(len(draws), bool)
        taken[order] = before + np.cumsum(sizes[order]) - sizes[order] < target
        ends = np.cumsum([len(each.draws) for each in found])[:-1]
        for shard, each, chosen in zip(shards, found, np.split(taken, ends), strict=True):
            self._among[shard.folder] = each.indices[chosen]

    def _in_last(self, shard: Divided) -> _Drawn:
        [(indices, draws, sizes)] = self._each([shard])
        inside = _bins(draws) == self._last
        return _Drawn(indices[inside], draws[inside], sizes[inside])

    def _each(self, shards: Sequence[Divided]) -> Iterator[_Drawn]:
        """Of each shard the documents that may be held out."""
        for divided in shards:
            shard = Shard(divided.folder)
            may = np.load(divided.copies) == 0
            indices = np.flatnonzero(may & (shard.characters <= self._most))
            draws = uniform(shard.hashes[indices], self._seed, "held out")
            yield _Drawn(indices, draws, shard.characters[indices])


def _bins(draws: NDArray[np.float64]) -> NDArray[np.int64]:
    return (draws * _BINS).astype(np.int64)


def _count(counts: dict[str, Sizes], shard: Shard, sides: NDArray[np.uint8]) -> None:
    """Add the sizes of a shard's documents to those of its domain."""
    chosen = {
        "read": sides >= 0,
        "distinct": (sides == TRAINING) | (sides == HELD_OUT),
        "held out": sides == HELD_OUT,
        "training": sides == TRAINING,
        "exact copies": sides == EXACT_COPY,
        "near copies": sides == NEAR_COPY,
    }
    for step, which in chosen.items():
        sizes = counts.setdefault(step, [0, 0, 0])
        sizes[0] += int(which.sum())
        sizes[1] += int(shard.characters[which].sum())
        sizes[2] += int(shard.num_bytes[which].sum())
