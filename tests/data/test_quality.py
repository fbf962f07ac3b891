from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from glam.config import FilterConfig
from glam.data import quality
from glam.data.hashing import uniform
from glam.data.quality import (
    area_under_curve,
    calibrated,
    count_scores,
    keeps,
    merge_counts,
    pareto_keeps,
    read_ranks,
    rounded,
    write_ranks,
)

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


SHARDS = st.lists(st.lists(st.integers(0, 9).map(lambda i: i / 8), max_size=12), max_size=6)


@given(SHARDS.filter(any), st.sampled_from([1, 3, 1 << 22]))
def test_ranks_merged_from_the_counts_of_shards_are_those_of_the_whole_pool(
    shards: list[list[float]], together: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "_TOGETHER", together)
        ranks = merge_counts(count_scores(np.array(shard)) for shard in shards)
    everything = np.array([score for shard in shards for score in shard])
    whole = calibrated({"pool": everything})["pool"]
    np.testing.assert_array_equal(ranks.rank(everything), whole)
    assert ranks.pages == len(everything)
    assert (np.diff(ranks.values) > 0).all()


def test_ranks_that_were_kept_are_read_as_they_were(tmp_path: Path) -> None:
    ranks = merge_counts([count_scores(np.array([0.5, 0.25, 0.5]))])
    write_ranks(tmp_path, ranks)
    assert read_ranks(tmp_path).rank(np.array([0.25, 0.5])).tolist() == [1 / 6, 2 / 3]


@given(*[st.lists(st.integers(0, 4), min_size=1, max_size=15)] * 2)
def test_the_area_under_the_curve_is_scikit_learns(good: list[int], web: list[int]) -> None:
    mine = area_under_curve(count_scores(np.array(good)), count_scores(np.array(web)))
    truth = [1] * len(good) + [0] * len(web)
    assert mine == pytest.approx(roc_auc_score(truth, good + web))


def test_paretos_law_holds_over_shards_as_over_the_whole() -> None:
    """At each rank the share that is kept is the law's, whatever shards the pages lie in."""
    raw = np.random.default_rng(0).beta(0.05, 1, len(DRAWS))
    shards = np.array_split(np.arange(len(raw)), [5, 1000, 200_000, 399_000])
    ranks = merge_counts(count_scores(raw[shard]) for shard in shards)
    kept = np.concatenate(
        [pareto_keeps(ranks.rank(raw[shard]), DRAWS[shard], 9.0) for shard in shards]
    )
    np.testing.assert_array_equal(kept, pareto_keeps(calibrated({"web": raw})["web"], DRAWS, 9.0))
    for tenth in np.array_split(np.argsort(raw, kind="stable"), 10):
        expected = ((2 - ranks.rank(raw[tenth])) ** -9.0).mean()
        error = np.sqrt(expected * (1 - expected) / len(tenth))
        assert abs(kept[tenth].mean() - expected) <= 4 * error


@given(st.floats(-1e9, 1e9))
def test_published_scores_are_rounded_by_little_and_few_are_distinct(score: float) -> None:
    found = rounded(np.array([score])).item()
    assert found == pytest.approx(score, rel=2.0**-16, abs=1e-300)
    assert rounded(np.array([found])).item() == found
    octave = rounded(np.random.default_rng(0).uniform(1, 2, 300_000))
    assert len(np.unique(octave)) <= 2**15 + 1
