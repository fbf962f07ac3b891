"""Slopes, their null and intervals that hold together."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from glam.analysis.association import Association, effects

SIDE = np.repeat([-0.5, 0.5], 20)


def measured(seed, values, side=SIDE, shuffles=199):
    rng = np.random.default_rng(seed)
    return effects({"one": Association(side, values)}, shuffles=shuffles, rng=rng)["one"]


def test_for_two_sides_it_is_the_difference_of_means_and_the_two_sample_t_test():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 1)) + 0.6 * SIDE[:, None]
    [one] = measured(1, values, shuffles=20_000)
    assert one.effect == pytest.approx(values[20:].mean() - values[:20].mean(), rel=1e-12)
    student = ttest_ind(values[20:, 0], values[:20, 0])
    assert one.p == pytest.approx(student.pvalue, abs=0.01)
    low, high = student.confidence_interval(0.95)
    assert (one.low, one.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_without_an_association_one_family_of_twenty_at_most_has_a_finding():
    found = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        shared = rng.normal(size=(40, 1))  # experts of a model are alike: units differ in common
        values = {
            "one": Association(SIDE, shared + rng.standard_t(3, size=(40, 20))),
            "other": Association(SIDE[10:32], rng.normal(size=(22, 20)) ** 3),
        }
        tests = effects(values, shuffles=199, rng=rng)
        found += any(one.is_found for of in tests.values() for one in of)
    assert found <= 21  # 15 are expected, and 21 in one of twenty series of 300


def test_intervals_of_a_family_cover_all_truths_together():
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=10)
        values = rng.normal(size=(40, 10)) + SIDE[:, None] * truth
        tests = measured(seed, values)
        covered += all(one.low <= true <= one.high for one, true in zip(tests, truth, strict=True))
    assert covered >= 182


def test_a_slope_on_a_number_is_least_squares():
    rng = np.random.default_rng(3)
    side = rng.random(60)
    values = np.stack([2 * side + rng.normal(scale=0.1, size=60), np.zeros(60)], 1)
    slope, nothing = measured(0, values, side)
    assert slope.effect == pytest.approx(np.polyfit(side, values[:, 0], 1)[0], rel=1e-9)
    assert slope.is_found
    assert (nothing.effect, nothing.p, nothing.is_found) == (0, 1, False)


def test_too_few_units_and_units_of_one_side_are_not_tested():
    few = Association(np.array([-0.5, 0.5, 0.5]), np.ones((3, 1)))
    alike = Association(np.ones(9), np.ones((9, 1)))
    assert effects({"few": few, "alike": alike}, shuffles=99, rng=np.random.default_rng(0)) == {}
