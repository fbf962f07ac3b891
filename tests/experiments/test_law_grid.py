"""The grid that a law is fitted to, and its cost."""

import pytest

from experiments.scaling_law.grid import measured, planned, seconds, swept, table
from glam.analysis.forecast import split_of
from glam.analysis.law_forms import FORMS
from glam.analysis.scaling_law import check_grid, sizes


def test_it_is_what_the_experiment_sweeps():
    runs, keys = planned(), swept()
    assert len(runs.loss) == 160
    assert sizes(runs).max() + 1 == len(keys["model"]) == 4
    assert {f"{tokens:.0f}" for tokens in runs.tokens} == set(keys["training.tokens"])


def test_what_is_left_of_it_suffices_for_every_form():
    runs = planned()
    split = split_of(runs)
    assert split.words == "the largest size and the most tokens"
    assert (~split.kept).sum() == 64  # 32 cells of two seeds
    for form in FORMS:
        check_grid(runs.where(split.kept), form)


def test_its_cost_is_tokens_by_the_median_rate_and_what_is_around_a_run():
    keys, rows = swept(), measured()
    cost = sum(
        float(tokens) / 1e6 * seconds(rows, model, experts) + 15
        for model in keys["model"]
        for experts in keys["model.num_experts"]
        for tokens in keys["training.tokens"]
        for _ in keys["seed"]
    )
    last = table().splitlines()[-1]
    assert float(last.split("|")[-2]) == pytest.approx(cost / 2 / 3600, abs=0.01)
    assert cost / 2 / 3600 < 3
