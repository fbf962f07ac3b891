"""The wild bootstrap, where the right answer is known: a line through means of clusters."""

import numpy as np
import pytest

from glam.analysis.wild_bootstrap import WEBB, wild

CLUSTERS = 14


def line(random, spread):
    """Means of clusters about a line of slope 1, as noisy as `spread` says."""
    x = np.linspace(-1, 1, CLUSTERS)
    return np.stack([np.ones(CLUSTERS), x], axis=1), x + random.normal(0, 1, CLUSTERS) * spread


def slope(columns, values):
    return np.linalg.lstsq(columns, values.T, rcond=None)[0][1]


def covered(spread, *, refit=True, own=True, corrected=True, count=600):
    """The share of 90 % intervals of the slope that hold 1; the options are mistakes."""
    random, held, ones = np.random.default_rng(0), 0, np.ones(CLUSTERS)
    for _ in range(count):
        columns, values = line(random, spread)
        best = np.linalg.lstsq(columns, values, rcond=None)[0]
        residuals = values - columns @ best
        noise = wild(residuals, columns, ones, 400, random).noise
        if not corrected:
            noise = random.choice([-1, 1], size=noise.shape) * residuals
        if not own:  # any cluster's residual in the place of any other's
            noise = random.choice(residuals, size=noise.shape)
        drawn = slope(columns, columns @ best + noise) if refit else best[1] + noise.mean(axis=1)
        low, high = np.quantile(drawn, [0.05, 0.95])
        held += low <= 1 <= high
    return held / count


EVEN, UNEVEN = np.full(CLUSTERS, 0.3), np.linspace(-1, 1, CLUSTERS) ** 2 + 0.02


@pytest.mark.parametrize("spread", [EVEN, UNEVEN], ids=["even noise", "uneven noise"])
def test_nine_in_ten_intervals_hold_the_slope(spread):
    assert 0.86 <= covered(spread) <= 0.94


def test_residuals_that_change_places_fail_where_noise_is_uneven():
    assert covered(UNEVEN, own=False) < 0.8


def test_signs_alone_fail_with_few_clusters():
    assert covered(UNEVEN, corrected=False) < 0.84


def test_noise_without_a_refit_fails():
    assert covered(EVEN, refit=False) < 0.8


def test_weights_have_mean_0_and_variance_1():
    both = np.concatenate([-WEBB, WEBB])
    assert both.mean() == pytest.approx(0)
    assert (both**2).mean() == pytest.approx(1)


def test_a_cluster_of_more_runs_counts_as_much_as_they_do():
    random = np.random.default_rng(0)
    columns, count = np.ones((4, 1)), np.array([1, 1, 1, 5])
    values = random.normal(0, 1, 4)
    mean = (values * count).sum() / count.sum()
    found = wild(values - mean, columns, np.sqrt(count), 2, random)
    assert found.degrees_of_freedom == 3
    assert found.spread == pytest.approx(np.sqrt((count * (values - mean) ** 2).sum() / 3))


def test_a_constant_that_no_cluster_tells_of_changes_nothing():
    columns, values = line(np.random.default_rng(0), EVEN)
    more = np.concatenate([columns, np.zeros((CLUSTERS, 1)), columns[:, :1]], axis=1)
    residuals = values - columns @ np.linalg.lstsq(columns, values, rcond=None)[0]
    size = [
        np.abs(wild(residuals, some, np.ones(CLUSTERS), 4000, np.random.default_rng(0)).noise)
        for some in (columns, more)
    ]
    ratio = np.median(size[1], axis=0) / np.median(size[0], axis=0)
    np.testing.assert_allclose(ratio, ratio[0], rtol=0.02)  # the degrees of freedom alone
