"""Paired differences and their correction, against their definitions."""

import numpy as np
import pytest
from scipy import stats

from glam.analysis.paired import corrected, holm, holm_tests, interval, p_value


def rejected_step_by_step(p_values, level):
    """Holm's procedure as he wrote it: from the smallest, until one is not small enough."""
    kept = sorted(range(len(p_values)), key=lambda i: p_values[i])
    found = set()
    for rank, index in enumerate(kept):
        if p_values[index] > level / (len(p_values) - rank):
            break
        found.add(index)
    return found


def test_adjusted_p_values_reject_what_holms_procedure_rejects():
    rng = np.random.default_rng(1)
    for _ in range(200):
        p_values = (rng.random(rng.integers(1, 12)) ** 4).tolist()
        mine = {i for i, p in enumerate(holm(p_values)) if p <= 0.05}
        assert mine == rejected_step_by_step(p_values, 0.05)


def test_the_p_value_is_that_of_a_paired_t_test():
    differences = np.random.default_rng(2).normal(0.3, 1, 9).tolist()
    assert p_value(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert p_value([0.1]) == 1.0


def families(count):
    """Differences of five seeds, some of them far from zero."""
    rng = np.random.default_rng(3)
    for _ in range(count):
        means = rng.normal(0, 1.5, rng.integers(1, 8))
        yield [rng.normal(mean, 1, 5).tolist() for mean in means]


def test_an_interval_leaves_zero_out_where_the_difference_is_significant():
    seen = set()
    for family in families(100):
        for one in holm_tests(family):
            low, high = one.interval
            assert one.is_significant == (not low <= 0 <= high)
            seen.add(one.is_significant)
    assert seen == {True, False}


def test_the_largest_effect_of_a_family_has_bonferronis_interval():
    """The smallest p-value is held against 5 % divided by all comparisons."""
    for family in families(20):
        found = holm_tests(family)
        best = min(range(len(family)), key=lambda i: p_value(family[i]))
        by_hand = stats.ttest_1samp(family[best], 0).confidence_interval(1 - 0.05 / len(family))
        assert found[best].interval == pytest.approx(tuple(by_hand))
        assert found[best].comparisons == len(family)


def test_a_difference_tested_alone_has_the_usual_interval():
    values = np.random.default_rng(4).normal(0.5, 1, 6).tolist()
    [alone] = holm_tests([values])
    assert alone.interval == pytest.approx(interval(values))
    assert alone.p == pytest.approx(p_value(values))


def test_the_mean_is_corrected_over_the_comparisons_and_not_over_the_domains():
    rng = np.random.default_rng(5)
    paired = {
        (value, domain): rng.normal(0.8, 1, 6).tolist()
        for value in ("4", "8")
        for domain in ("mean", "reviews", "tweets")
    }
    found = corrected(paired)
    assert {found[value, "mean"].comparisons for value in ("4", "8")} == {2}
    assert {one.comparisons for (_, name), one in found.items() if name != "mean"} == {4}
    by_hand = holm([p_value(paired["4", "mean"]), p_value(paired["8", "mean"])])
    assert [found["4", "mean"].p, found["8", "mean"].p] == by_hand


def test_one_seed_is_never_significant():
    [one, other] = holm_tests([[-9.0], [-8.0, -8.1, -8.2]])
    assert (one.interval, one.is_significant) == (None, False)
    assert other.is_significant
