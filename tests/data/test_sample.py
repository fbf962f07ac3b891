"""Samples over shards against one sorted list of all pages."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from glam.data.hashing import uniform
from glam.data.sample import lowest

PAGES = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 50)), max_size=20)


@given(st.lists(PAGES, min_size=1, max_size=4), st.integers(0, 300), st.booleans())
def test_the_pages_of_lowest_draws_are_found_in_whatever_shards_they_lie(
    shards: list[list[tuple[int, int]]], most: int, in_bytes: bool
) -> None:
    pages: list[Any] = [
        SimpleNamespace(
            hashes=np.array([h for h, _ in each], np.uint64),
            num_bytes=np.array([size for _, size in each], np.int64),
        )
        for each in shards
    ]
    every = [(s, i, *page) for s, each in enumerate(shards) for i, page in enumerate(each)]
    draws = uniform(np.array([h for *_, h, _ in every], np.uint64), 7, "purpose")
    taken, slow = 0, [list[int]() for _ in shards]
    for place in np.argsort(draws, kind="stable"):
        shard, index, _, size = every[place]
        if taken < most:
            slow[shard].append(index)
        taken += size if in_bytes else 1
    found = lowest(pages, "purpose", 7, most, in_bytes=in_bytes)
    assert [each.tolist() for each in found] == [sorted(each) for each in slow]
