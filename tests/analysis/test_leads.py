"""What experts bring at equal FLOPs, from cells alone."""

import numpy as np
import pytest
from scipy import stats

from glam.analysis.leads import best_of_budgets, leads
from glam.analysis.scaling_law import Runs

SIZES, TOKENS = (1e5, 1e6), (1e6, 4e6)


def grid(gain, *, noise=0.0, seeds=3, experts=(1, 4, 16)):
    """`gain` of a number of experts in nats; a seed adds the same to all its runs."""
    random = np.random.default_rng(0)
    cells = [(n, e, d, s) for n in SIZES for e in experts for d in TOKENS for s in range(seeds)]
    active, count, tokens, seed = np.array(cells, dtype=float).T
    loss = 4 - 0.1 * np.log(active * tokens) + random.normal(0, 1, seeds)[seed.astype(int)]
    loss -= np.array([gain[int(e)] for e in count]) + random.normal(0, noise, len(count))
    return Runs(
        active=active * (1 + count / 1000), experts=count, tokens=tokens, loss=loss,
        flops=2 * active, seed=seed.astype(int),
    )  # fmt: skip


def test_a_lead_is_the_dense_twins_loss_less_the_sparse_ones_whatever_the_seed_adds():
    found = leads(grid({1: 0.0, 4: 0.02, 16: -0.01}))
    assert [(one.active, one.tokens, one.experts) for one in found] == [
        (n * 1.001, d, e) for n in SIZES for d in TOKENS for e in (4, 16)
    ]
    for one in found:
        assert one.paired == pytest.approx([0.02 if one.experts == 4 else -0.01] * 3)
        assert one.interval == pytest.approx((one.mean, one.mean), abs=1e-9)
        assert one.tokens_per_parameter == one.tokens / one.active


def test_the_noise_is_that_of_all_cells_together():
    runs = grid({1: 0.0, 4: 0.02, 16: 0.03}, noise=0.01)
    found = leads(runs, confidence=0.9)
    left = [value - one.mean for one in found for value in one.paired]
    freedom = len(left) - len(found)
    spread = np.sqrt(np.square(left).sum() / freedom)
    half = stats.t.ppf(0.95, freedom) * spread / np.sqrt(3)
    for one in found:
        assert one.interval == pytest.approx((one.mean - half, one.mean + half))


def test_nine_in_ten_intervals_of_two_seeds_hold_the_lead():
    held = []
    for i in range(100):
        runs = grid({1: 0.0, 4: 0.02, 16: 0.03}, seeds=2)
        runs.loss[:] += np.random.default_rng(i).normal(0, 0.01, len(runs.loss))
        for one in leads(runs):
            low, high = one.interval
            held.append(low <= {4: 0.02, 16: 0.03}[one.experts] <= high)
    assert 0.86 <= np.mean(held) <= 0.94


def test_a_seed_without_its_twin_is_left_out_and_one_seed_has_no_interval():
    runs = grid({1: 0.0, 4: 0.02, 16: 0.03})
    alone = runs.where((runs.seed == 0) | ((runs.seed == 1) & (runs.experts != 1)))
    found = leads(alone)
    assert len(found) == 8
    assert all(len(one.paired) == 1 and one.interval is None for one in found)


def test_the_best_of_a_budget_has_the_lowest_loss_and_its_rivals_are_not_told_from_it():
    for one in best_of_budgets(grid({1: 0.0, 4: 0.05, 16: 0.05}, noise=0.002), confidence=0.999):
        assert one.experts in (4, 16)
        assert one.rivals == (4, 16)
        assert one.lead is not None
        assert one.lead.mean == pytest.approx(0.05, abs=0.01)
    for one in best_of_budgets(grid({1: 0.0, 4: -0.05, 16: -0.05}, noise=0.002)):
        assert (one.experts, one.rivals, one.lead) == (1, (1,), None)


def test_a_budget_without_a_dense_twin_tells_nothing():
    runs = grid({1: 0.0, 4: 0.05, 16: 0.05})
    assert best_of_budgets(runs.where(runs.experts > 1)) == []
