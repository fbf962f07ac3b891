"""Samples of a corpus by draws: the pages of lowest draws, in whatever shards they lie.

In memory are the candidates alone: those of the shards seen so far that may still be among them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glam.data.hashing import uniform
from glam.data.pages import Pages


def lowest(
    shards: Sequence[Pages], purpose: str, seed: int, most: float, *, in_bytes: bool
) -> list[NDArray[np.int64]]:
    """Ascending places of pages in each shard: those of the lowest draws, until they are `most`
    pages, or bytes. Of equal draws the first read come first."""
    draws, sizes = np.zeros(0), np.zeros(0, np.int64)
    shard_of, place = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for number, pages in enumerate(shards):
        mine = uniform(pages.hashes, seed, purpose)
        draws = np.concatenate([draws, mine])
        sizes = np.concatenate([sizes, pages.num_bytes if in_bytes else np.ones(len(mine), int)])
        shard_of = np.concatenate([shard_of, np.full(len(mine), number)])
        place = np.concatenate([place, np.arange(len(mine))])
        order = np.argsort(draws, kind="stable")
        before = np.cumsum(sizes[order]) - sizes[order]
        kept = order[before < most]
        draws, sizes, shard_of, place = draws[kept], sizes[kept], shard_of[kept], place[kept]
    return [np.sort(place[shard_of == number]) for number in range(len(shards))]
