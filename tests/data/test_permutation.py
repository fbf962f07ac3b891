"""A random order of which nothing is held."""

import numpy as np
import pytest

from glam.data.permutation import Permutation


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 4097])
def test_every_number_is_in_the_order_once(size):
    order = [Permutation(size, "seed")[i] for i in range(size)]
    assert sorted(order) == list(range(size))


def test_orders_of_other_keys_are_other_orders_and_none_is_like_counting():
    first, second = (np.array([Permutation(5000, key)[i] for i in range(5000)]) for key in "ab")
    for one, other in ((first, second), (first, np.arange(5000)), (second, np.arange(5000))):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.06  # four standard errors
        assert (one == other).sum() < 10


@pytest.mark.parametrize("index", [-1, 10])
def test_there_is_no_place_outside(index):
    with pytest.raises(IndexError):
        Permutation(10, "a")[index]


def test_a_trillion_numbers_take_no_memory_and_no_time():
    found = {Permutation(10**12, "a")[i] for i in range(100)}
    assert len(found) == 100
    assert max(found) > 10**11
