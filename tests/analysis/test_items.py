"""Two models compared item by item."""

import numpy as np
import pytest
from scipy import stats

from glam.analysis.items import item_differences, smallest_effect
from glam.intervals import t_p_value


def judged(scores, digest="d", clusters=None, column=""):
    """A suite's items: scores by task."""
    return {
        "suite": "s",
        "tasks": [
            {
                "task": task,
                "metric": metric,
                "column": column,
                "digest": digest,
                "each": list(each),
                "clusters": clusters,
            }
            for task, (metric, each) in scores.items()
        ],
    }


def compared(first, second):
    return item_differences({"pair": ([first], [second])})["pair"]


def test_a_difference_is_that_of_the_same_items():
    first, second = [0, 1, 0, 0, 1, 0], [1, 1, 0, 1, 1, 0]
    [found] = compared(judged({"t": ("acc", first)}), judged({"t": ("acc", second)}))
    each = np.array(second) - np.array(first)
    assert (found.first, found.second) == (2 / 6, 4 / 6)
    assert found.mean == pytest.approx(each.mean())
    expected = stats.ttest_1samp(each, 0)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))


def test_what_is_hard_for_both_drops_out():
    rng = np.random.default_rng(0)
    hard = rng.random(400) < 0.5
    better = hard | (rng.random(400) < 0.08)
    [found] = compared(
        judged({"t": ("acc", hard.astype(int).tolist())}),
        judged({"t": ("acc", better.astype(int).tolist())}),
    )
    apart = stats.ttest_ind(better.astype(float), hard.astype(float)).pvalue
    assert found.p < 0.01 < 0.05 < apart


def test_other_items_metrics_and_tasks_are_not_compared():
    first = judged({"t": ("acc", [0, 1]), "only_here": ("acc", [0, 1])})
    assert compared(first, judged({"t": ("acc", [1, 1])}, digest="other")) == []
    assert compared(first, judged({"t": ("exact_match", [1, 1])})) == []
    [found] = compared(first, judged({"t": ("acc", [1, 1])}))
    assert found.task == "t"


def test_seeds_are_averaged_item_by_item():
    first = [judged({"t": ("acc", each)}) for each in ([0, 0, 1, 1], [0, 1, 1, 1])]
    second = [judged({"t": ("acc", each)}) for each in ([1, 0, 1, 1], [1, 1, 1, 0])]
    [found] = item_differences({"pair": (first, second)})["pair"]
    assert found.mean == pytest.approx(np.mean([1.0, 0.0, 0.0, -0.5]))
    assert found.items == 4


def test_clusters_widen_the_interval_where_their_items_move_together():
    first, second = [0] * 12, [1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0]
    documents = list("aaabbbcccddd")
    [alone] = compared(judged({"t": ("acc", first)}), judged({"t": ("acc", second)}))
    [together] = compared(
        judged({"t": ("acc", first)}, clusters=documents),
        judged({"t": ("acc", second)}, clusters=documents),
    )
    assert together.mean == alone.mean
    assert together.interval[0] < 0 < alone.interval[0]


def test_all_differences_of_all_pairs_are_adjusted_together():
    rng = np.random.default_rng(1)
    tasks = {f"t{n}": rng.random(60) < 0.5 for n in range(4)}
    first = judged({name: ("acc", each.astype(int).tolist()) for name, each in tasks.items()})
    others = [
        judged(
            {name: ("acc", (each | (rng.random(60) < 0.12)).astype(int).tolist())
             for name, each in tasks.items()}
        )
        for _ in range(2)
    ]  # fmt: skip
    found = item_differences({n: ([first], [other]) for n, other in zip("ab", others, strict=True)})
    rows = [*found["a"], *found["b"]]
    expected = stats.false_discovery_control([one.p for one in rows])
    assert [one.adjusted for one in rows] == pytest.approx(list(expected))
    assert any(one.p < 0.05 for one in rows)


def test_the_smallest_effect_is_found_in_four_of_five_cases():
    rng, items, error = np.random.default_rng(2), 200, 0.03
    effect = smallest_effect(error, items, items - 1)
    means = rng.normal(effect, error, 4000)
    found = np.mean([t_p_value(mean, error, items - 1) < 0.05 for mean in means])
    assert found == pytest.approx(0.8, abs=0.03)


def test_equal_answers_leave_a_difference_of_one_item_to_be_found():
    same = judged({"t": ("acc", [0, 1] * 25)})
    [found] = compared(same, same)
    assert (found.mean, found.p, found.is_significant) == (0.0, 1.0, False)
    assert found.smallest == pytest.approx(smallest_effect(1 / 50, 50, 49))
    assert compared(judged({"t": ("acc", [1])}), judged({"t": ("acc", [0])}))[0].interval is None
