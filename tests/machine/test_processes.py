"""Who trains together, by the environment; and the rows of each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from glam.machine import processes
from glam.machine.processes import SINGLE, Processes


class One(Processes):
    def __init__(self, rank, size):
        self.rank, self.size = rank, size


@given(count=some.integers(0, 100), size=some.integers(1, 20))
def test_every_row_is_one_processs_and_all_have_about_as_many(count, size):
    rows = [One(rank, size).rows(count) for rank in range(size)]
    assert [row for mine in rows for row in mine] == list(range(count))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_a_process_alone_has_all_rows_and_is_main():
    assert SINGLE.is_main
    assert SINGLE.rows(5) == range(5)
    assert SINGLE.largest(3, 0) == (3, 0)
    total = np.ones(2)
    assert SINGLE.sum(total) is total


@pytest.mark.parametrize(("rank", "is_main"), [(0, True), (3, False)])
def test_the_first_is_main(rank, is_main):
    assert One(rank, 4).is_main is is_main


def test_torchruns_environment_says_who_is_here(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert (processes.under_torchrun(), processes.rank(), processes.count()) == (False, 0, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert (processes.under_torchrun(), processes.rank(), processes.count()) == (True, 5, 8)
