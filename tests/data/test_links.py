"""What links connect, against a search through the links."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.data import links as linking
from glam.data.links import Links

TOTAL = 12
NUMBERS = st.integers(0, TOTAL - 1)


def lowest_of(pairs):
    """The lowest number that each can be reached from."""
    lowest = list(range(TOTAL))
    for _ in range(TOTAL):
        for one, other in pairs:
            lowest[one] = lowest[other] = min(lowest[one], lowest[other])
    return lowest


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5), max_size=6))
def test_a_set_is_known_by_its_lowest_number_however_its_links_come(tmp_path_factory, blocks):
    links = Links(tmp_path_factory.mktemp("links") / "l", TOTAL)
    for block in blocks:
        one, other = np.array(block, np.int64).reshape(-1, 2).T
        links.add(one, other)
    expected = lowest_of([pair for block in blocks for pair in block])
    every = np.arange(TOTAL)
    assert links.is_linked(3, 9).tolist() == [expected[i] != i for i in range(3, 9)]
    assert links.lowest(every).tolist() == expected
    assert links.apart(every, every[::-1]).tolist() == [
        a != b for a, b in zip(expected, expected[::-1], strict=True)
    ]


def test_the_file_is_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(linking, "_WRITTEN", 5)
    assert Links(tmp_path / "l", TOTAL).lowest(np.arange(TOTAL)).tolist() == list(range(TOTAL))
