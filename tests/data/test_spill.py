"""Records on disk in partitions, and what comes again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.data import spill
from glam.data.spill import Spill, repeats

KEYS = st.lists(st.sampled_from([0, 1, 2**32, 2**63, 2**64 - 1, 7]), max_size=40)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Partitions of a few records."""
    monkeypatch.setattr(spill, "RECORDS", 4)


@settings(deadline=None)
@given(KEYS, st.integers(1, 50))
def test_every_record_that_comes_again_is_told_with_the_first_of_its_key(tmp_path_factory, keys, n):
    records = Spill(tmp_path_factory.mktemp("spill") / "s", n)
    for start in range(0, len(keys), 7):
        some = np.array(keys[start : start + 7], np.uint64)
        records.add(some, np.arange(start, start + len(some)))
    found = {}
    for place in range(records.count):
        for again, first, before in repeats(records.blocks(place)):
            for number, *others in zip(
                again.tolist(), first.tolist(), before.tolist(), strict=True
            ):
                assert number not in found
                found[number] = others
    assert found.keys() == {i for i, key in enumerate(keys) if key in keys[:i]}
    for number, (first, before) in found.items():
        assert first == keys.index(keys[number])
        assert before < number
        assert keys[before] == keys[number]


def test_a_partition_is_read_in_blocks_of_a_few_records_and_is_gone_then(tmp_path):
    records = Spill(tmp_path / "s", 8)
    records.add(np.array([1] * 9 + [2**63] * 2, np.uint64), np.arange(11))
    assert records.count == 2
    assert [len(keys) for keys, _ in records.blocks(0)] == [4, 4, 1]
    assert [len(keys) for keys, _ in records.blocks(1)] == [2]
    assert list((tmp_path / "s").iterdir()) == []
