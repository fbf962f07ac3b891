import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glam.config import FilterConfig
from glam.data.hashing import uniform
from glam.data.quality import calibrated, keeps, pareto_keeps

DRAWS = uniform(np.arange(400_000, dtype=np.uint64), 0, "test")


@pytest.mark.parametrize("alpha", [2.0, 9.0])
@pytest.mark.parametrize("score", [0.0, 0.5, 0.9, 1.0])
def test_the_share_kept_at_a_score_is_the_closed_form(alpha: float, score: float) -> None:
    kept = pareto_keeps(np.full(len(DRAWS), score), DRAWS, alpha).mean()
    expected = (2 - score) ** -alpha
    error = np.sqrt(expected * (1 - expected) / len(DRAWS))
    assert abs(kept - expected) <= 4 * error


def test_calibrated_scores_keep_an_eighth_at_the_papers_alpha() -> None:
    raw = np.random.default_rng(0).beta(0.02, 2, len(DRAWS)).astype(np.float32)
    scores = calibrated({"web": raw})["web"]
    assert pareto_keeps(scores, DRAWS, 9.0).mean() == pytest.approx((1 - 2**-8) / 8, rel=0.02)


@given(st.lists(st.lists(st.integers(0, 5), max_size=20), min_size=1, max_size=3).filter(any))
def test_a_rank_is_the_share_of_the_whole_pool_below_ties_halved(pool: list[list[int]]) -> None:
    scores = {f"s{i}": np.array(each, np.float32) for i, each in enumerate(pool)}
    everything = np.concatenate(list(scores.values()))
    for name, ranks in calibrated(scores).items():
        slow = [
            ((everything < x).sum() + (everything == x).sum() / 2) / len(everything)
            for x in scores[name]
        ]
        np.testing.assert_allclose(ranks, np.array(slow))


def test_a_threshold_keeps_the_best_whatever_is_drawn() -> None:
    scores = calibrated({"web": np.random.default_rng(0).random(1000, np.float32)})["web"]
    kept = keeps(scores, DRAWS[:1000], FilterConfig(name="threshold", threshold=0.875))
    assert kept.sum() == 125
    assert scores[kept].min() > scores[~kept].max()
    np.testing.assert_array_equal(
        keeps(scores, DRAWS[:1000], FilterConfig(alpha=3.0)),
        pareto_keeps(scores, DRAWS[:1000], 3.0),
    )
