"""Scores against chance. Scores between runs: tests/reporting/test_study_tasks.py."""

import math

import numpy as np
import pytest
from scipy import stats

from glam.analysis.tasks import above_chance, is_above_chance


def task(value, chance, items=300, stderr=None):
    plain = math.sqrt(value * (1 - value) / items)
    return {"value": value, "chance": chance, "items": items, "stderr": stderr or plain}


def test_p_is_that_of_the_score_test_of_a_share():
    found = above_chance({"a": task(0.55, 0.5)})
    z = (0.55 - 0.5) / math.sqrt(0.5 * 0.5 / 300)
    assert found["a"] == pytest.approx(stats.norm.sf(z))
    exact = stats.binomtest(165, 300, 0.5, alternative="greater").pvalue
    assert found["a"] == pytest.approx(exact, abs=0.01)


def test_items_of_few_documents_count_for_less():
    alone = task(0.56, 0.5)
    clustered = alone | {"stderr": 2 * alone["stderr"]}  # as of a quarter of the items
    quarter = above_chance({"a": task(0.56, 0.5, items=75)})
    assert above_chance({"a": clustered}) == pytest.approx(quarter)
    # Fewer are never counted for more.
    assert above_chance({"a": alone | {"stderr": 0.001}}) == pytest.approx(
        above_chance({"a": alone})
    )


def test_of_many_tasks_at_chance_hardly_one_is_told_from_it():
    draws = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        right = draws.binomial(300, 0.25, 6) / 300
        tasks = {str(n): task(float(value), 0.25) for n, value in enumerate(right)}
        wrong += any(map(is_above_chance, above_chance(tasks).values()))
    assert wrong / 400 < 0.08  # 5 % by Holm's procedure, and the noise of 400 draws


@pytest.mark.parametrize(
    ("value", "chance", "told"),
    [(0.0, 0.0, False), (0.1, 0.0, True), (0.0, 0.05, False), (1.0, 0.25, True), (1.0, 1.0, False)],
)
def test_at_the_ends_of_the_scale(value, chance, told):
    assert is_above_chance(above_chance({"a": task(value, chance)})["a"]) == told


def test_a_task_without_a_chance_level_is_not_tested():
    assert above_chance({"a": task(0.9, None), "b": {"value": None, "chance": 0.5}}) == {}
    assert not is_above_chance(None)
