"""What a study compares has the same budget, or it is refused before a run starts."""

import pytest

from glam.config import ModelConfig, RunConfig, StudyConfig, TrainingConfig
from glam.errors import UserError
from glam.studies.budget import check_comparison
from glam.studies.study import Cell


def cells(*tokens: int, experts: tuple[int, ...] = (1, 8), **study) -> list[Cell]:
    """A cell for each number of experts, with so many tokens."""
    return [
        Cell(
            values={"model.num_experts": count},
            config=RunConfig(
                model=ModelConfig(num_experts=count),
                training=TrainingConfig(tokens=budget),
                study=StudyConfig(**study),
            ),
            overrides=[],
        )
        for count, budget in zip(experts, tokens, strict=True)
    ]


EXPERTS = {"compares": "model.num_experts"}


@pytest.mark.parametrize("budget", ["tokens", "flops", None])
def test_equal_budgets_pass(budget):
    check_comparison(cells(10**6, 10**6, **EXPERTS, budget=budget, baseline=1))


@pytest.mark.parametrize("budget", ["tokens", "flops"])
def test_unequal_budgets_are_refused(budget):
    with pytest.raises(UserError, match=rf"study.budget={budget} but num_experts=1 and num_ex.*=8"):
        check_comparison(cells(10**6, 2 * 10**6, **EXPERTS, budget=budget))


def test_the_gate_may_exceed_the_dense_twin_in_flops():
    sparse, dense = (one.config.flops_per_token for one in cells(1, 1, experts=(8, 1)))
    assert 1 < sparse / dense < 1.05
    check_comparison(cells(10**6, 10**6, **EXPERTS, budget="flops"))


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ({"budget": "flops"}, "study.budget=flops is what the cells have in common"),
        ({"compares": "seed"}, "seeds are what the intervals are over"),
        ({"compares": "model.top_k"}, "study.compares=model.top_k is not swept here"),
        ({**EXPERTS, "baseline": 2}, "study.baseline=2 is no value of model.num_experts here"),
        ({**EXPERTS, "budget": "seconds"}, "training.seconds is not set"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(study, words):
    with pytest.raises(UserError, match=words):
        check_comparison(cells(10**6, 10**6, **study))
