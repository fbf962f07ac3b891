"""A learning rate that follows from size and tokens."""

import math
from dataclasses import replace

import pytest

from glam.config import AdafactorConfig, AdamWConfig, ModelConfig, RunConfig, TrainingConfig
from glam.config.optimizers.rate_rule import RateRule
from glam.errors import UserError
from glam.machine.resources import resolve
from glam.runs.identity import run_id

RULE = RateRule(scale=0.01, size_exponent=0.5, token_exponent=0.25, batch_tokens=1000)
AUTO = RunConfig(optimizer=AdamWConfig(learning_rate="auto"))


def test_the_rate_is_the_power_law_of_the_definition():
    assert RULE.rate(10**6, 10**6, 1000) == 0.01
    assert RULE.rate(4 * 10**6, 10**6, 1000) == pytest.approx(0.005)
    assert RULE.rate(10**6, 16 * 10**6, 1000) == pytest.approx(0.005)
    assert RULE.rate(10**6, 10**6, 4000) == pytest.approx(0.02)


def test_below_the_least_of_its_fit_a_rate_stays_and_above_the_most_it_goes_on():
    rule = replace(RULE, sizes=[10**6, 10**7], tokens=[10**6, 10**7])
    assert rule.rate(10, 10, 1000) == rule.rate(10**6, 10**6, 1000) == 0.01
    assert rule.rate(10**8, 10**6, 1000) == pytest.approx(0.001)
    assert rule.rate(10**6, 10**10, 1000) == pytest.approx(0.001)


def test_a_rate_has_three_digits():
    found = RULE.rate(123_456, 7_654_321, 1024)
    exact = 0.01 * 0.123456**-0.5 * 7.654321**-0.25 * math.sqrt(1.024)
    assert found == float(f"{exact:.3g}")


def test_twins_train_at_one_rate_and_another_size_or_budget_at_another():
    rate = AUTO.optimizer_as_built.rate
    dense = replace(AUTO, model=replace(AUTO.model, num_experts=1))
    wide = replace(AUTO, model=ModelConfig(d_model=128, d_ff=512))
    longer = replace(AUTO, training=TrainingConfig(tokens=2 * AUTO.training.tokens))
    assert dense.optimizer_as_built.rate == rate
    assert wide.optimizer_as_built.rate < rate
    assert longer.optimizer_as_built.rate < rate


def test_a_rate_that_is_typed_is_taken_as_it_is():
    typed = AdamWConfig(learning_rate=0.003)
    assert RunConfig(optimizer=typed).optimizer_as_built is typed


def test_auto_is_the_run_of_the_number_that_it_gives():
    number = replace(AUTO, optimizer=AUTO.optimizer_as_built)
    resources = resolve(AUTO)
    assert run_id(AUTO, resources) == run_id(number, resources)
    other = AdamWConfig(learning_rate="auto", auto=RULE)
    assert run_id(replace(AUTO, optimizer=other), resources) != run_id(AUTO, resources)


def test_what_the_rule_was_not_fitted_to_is_said_with_how_far_it_is():
    assert AUTO.rate_line is None
    guessed = replace(AUTO, optimizer=AdamWConfig(auto=RateRule(scale=0.01, source="")))
    assert guessed.rate_line == (
        f"optimizer.learning_rate=auto: {guessed.optimizer_as_built.rate:g} is by constants that "
        f"were fitted to nothing (optimizer.auto.source is empty)"
    )
    fitted = RateRule(sizes=[10**5, 10**6], tokens=[10**5, 10**6], source="a sweep")
    line = replace(AUTO, optimizer=AdamWConfig(learning_rate="auto", auto=fitted)).rate_line
    assert line is not None
    assert line.endswith("fitted to: 5,000,000 tokens are 5 times the most, 1,000,000")
    rule = RateRule(sizes=[1000, 2000], tokens=[10, 1000])
    assert rule.beyond(100, 5) is None
    assert rule.beyond(4000, 2000) is None
    assert rule.beyond(6000, 5000) == (
        "6,000 active parameters are 3 times the most, 2,000 and 5,000 tokens are 5 times the "
        "most, 1,000"
    )
    assert RunConfig(optimizer=AdamWConfig(learning_rate=0.5)).rate_line is None


@pytest.mark.parametrize("wrong", ["fast", True, None, [0.1], -1.0, 0])
def test_what_is_no_rate_is_refused(wrong):
    with pytest.raises(UserError, match=r"optimizer\.learning_rate="):
        AdamWConfig(learning_rate=wrong)


def test_an_optimizer_without_a_rule_has_no_auto():
    with pytest.raises(UserError, match=r"no rule for optimizer=adafactor"):
        AdafactorConfig(learning_rate="auto")


@pytest.mark.parametrize("wrong", [[1], [5, 1], [0, 1], []])
def test_ends_of_a_fit_are_two_that_ascend(wrong):
    with pytest.raises(UserError, match=r"optimizer\.auto\.sizes="):
        RateRule(sizes=wrong)
