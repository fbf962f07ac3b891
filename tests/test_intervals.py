"""Intervals against their formulas, and against what is drawn many times."""

import math

import numpy as np
import pytest

from glam.intervals import around, standard_error, t_p_value, t_quantile, wilson


@pytest.mark.parametrize(("right", "items"), [(0, 5), (3, 7), (10, 10), (53, 100)])
def test_wilsons_interval_is_his_formula(right, items):
    z, share = 1.959963984540054, right / items
    centre = (share + z * z / 2 / items) / (1 + z * z / items)
    half = z / (1 + z * z / items) * math.sqrt(share * (1 - share) / items + z * z / 4 / items**2)
    assert wilson(right, items) == pytest.approx((centre - half, centre + half))


def test_independent_values_have_the_usual_error():
    values = [1.0, 2.0, 4.0, 4.0]
    assert standard_error(values) == pytest.approx(np.std(values, ddof=1) / 2)
    assert standard_error(values, ["a", "b", "c", "d"]) == pytest.approx(standard_error(values))
    assert standard_error([1.0]) is None
    assert standard_error([1.0, 2.0], ["a", "a"]) is None


def test_copies_of_values_are_no_new_knowledge():
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    clusters = list("abcde")
    assert standard_error(values * 9, clusters * 9) == pytest.approx(standard_error(values))


def test_a_tenth_of_the_means_of_clusters_lies_beyond_their_interval():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(30), 8).astype(str).tolist()
    missed = 0
    for _ in range(400):
        values = np.repeat(rng.normal(size=30), 8) + rng.normal(size=240)
        error = standard_error(values.tolist(), clusters)
        low, high = around(values.mean(), error, 29, 0.9)
        missed += not low <= 0 <= high
    assert 0.06 < missed / 400 < 0.14


def test_a_mean_at_the_edge_of_its_interval_has_a_p_value_of_five_percent():
    low, high = around(2.0, 0.5, 7)
    assert (low + high) / 2 == pytest.approx(2.0)
    assert t_p_value(t_quantile(0.975, 7) * 0.5, 0.5, 7) == pytest.approx(0.05)
    assert (t_p_value(0.0, 0.0, 3), t_p_value(1.0, 0.0, 3)) == (1.0, 0.0)
