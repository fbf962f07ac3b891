"""Held-out documents, set apart before anything else looks at the text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glam.config import Role
from glam.data.hashing import uniform

VERSION = 1
_FIRST = ("held_out", "curated", "pool")  # of two equal documents the earlier role keeps its one


@dataclass(frozen=True)
class Domain:
    """A source as the split sees it: role, `hashes [documents]`, `characters [documents]`."""

    role: Role
    hashes: NDArray[np.uint64]
    characters: NDArray[np.int64]


@dataclass(frozen=True)
class Sides:
    """Ascending indices of a source's documents; duplicates are on neither side."""

    training: NDArray[np.int64]
    held_out: NDArray[np.int64]


def split(domains: Sequence[Domain], fraction: float, seed: int) -> list[Sides]:
    """Whole documents of each domain on two sides: `fraction` of its text is held out, or all of
    a source that is held out altogether, or nothing of a single document. Equal documents, in one
    source or two, count once, so none is on both sides."""
    seen: set[int] = set()
    sides: dict[int, Sides] = {}
    for index in sorted(range(len(domains)), key=lambda i: _FIRST.index(domains[i].role)):
        domain = domains[index]
        distinct = _distinct(domain.hashes, seen)
        if domain.role == "held_out":
            sides[index] = Sides(distinct[:0], distinct)
        else:
            sides[index] = _two_sides(domain, distinct, fraction, seed)
    return [sides[index] for index in range(len(domains))]


def _distinct(hashes: NDArray[np.uint64], seen: set[int]) -> NDArray[np.int64]:
    chosen: list[int] = []
    for index, name in enumerate(hashes.tolist()):
        if name not in seen:
            seen.add(name)
            chosen.append(index)
    return np.array(chosen, np.int64)


def _two_sides(domain: Domain, distinct: NDArray[np.int64], fraction: float, seed: int) -> Sides:
    """Documents in the order of their draws are held out until `fraction` of the text is. A count
    of documents would not do: the books of scripture differ a hundredfold in length. With two
    documents or more both sides get one, for `fraction` is at most a half."""
    sizes = domain.characters[distinct]
    target, half = fraction * sizes.sum(), sizes.sum() / 2
    held, taken = 0, np.zeros(len(distinct), bool)
    for rank in np.argsort(uniform(domain.hashes[distinct], seed, "held out"), kind="stable"):
        # A document that is most of its domain is better trained on.
        if held < target and sizes[rank] <= half:
            taken[rank] = True
            held += int(sizes[rank])
    return Sides(distinct[~taken], distinct[taken])
