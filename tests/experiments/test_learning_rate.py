"""The fit of a learning rate's rule, on bowls whose bottom is known."""

import dataclasses
import math

import numpy as np
import pytest
import yaml

from experiments.learning_rate.fit import (
    Rule,
    fitted,
    held_out,
    intervals,
    optima,
    optimum,
)
from experiments.learning_rate.sweep import FIRST, LATTICE, best_rate, first_rate
from glam.config import ROOT
from glam.config.optimizers.rate_rule import RateRule

TRUE = Rule(scale=0.008, size_exponent=0.3, token_exponent=0.2)
SIZES, BUDGETS, CURVATURE = (20e3, 75e3, 300e3, 1.2e6), (5e5, 1e6, 2e6, 4e6), 0.1


def bowls(rule: Rule, noise: float = 0.0, seed: int = 0) -> list[dict[str, str]]:
    """A sweep's rows: losses around the rule's rate, on the rates next to it."""
    random, rows = np.random.default_rng(seed), list[dict[str, str]]()
    for size in SIZES:
        for tokens in BUDGETS:
            best = float(rule.log_rate(np.array([size]), np.array([tokens]))[0])
            best += noise * random.standard_normal()
            nearest = int(np.argmin([abs(math.log(rate) - best) for rate in LATTICE]))
            for rate in LATTICE[nearest - 1 : nearest + 2]:
                loss = 4 + CURVATURE / 2 * (math.log(rate) - best) ** 2
                row = {"parameters": size, "tokens": tokens, "experts": 1, "seed": 100}
                rows.append({k: f"{v:g}" for k, v in row.items()} | {"rate": str(rate)})
                rows[-1]["loss"] = repr(loss)
    return rows


def test_the_bottom_of_a_parabola_is_found_with_its_curvature():
    rates = [0.003, 0.006, 0.012, 0.024]
    losses = [4 + CURVATURE / 2 * (math.log(rate) - math.log(0.0075)) ** 2 for rate in rates]
    best, curvature, at_edge = optimum(rates, losses)
    assert (math.exp(best), curvature) == (pytest.approx(0.0075), pytest.approx(CURVATURE))
    assert not at_edge


def test_a_parabola_is_as_wide_in_a_fine_scan_as_in_a_coarse_one():
    """Its noise is less there: five points stand within a factor of two of the best."""
    rates = [0.0075 * 2 ** (step / 2) for step in range(-4, 5)]
    off = [0.01 if step == 1 else 0.0 for step in range(-4, 5)]
    bowl = [CURVATURE / 2 * math.log(rate / 0.0075) ** 2 for rate in rates]
    fine = optimum(rates, [sum(pair) for pair in zip(bowl, off, strict=True)])[0]
    x = np.log(rates[2:7]) - math.log(0.0075)
    a, b, _ = np.polyfit(x, np.array(bowl[2:7]) + np.array(off[2:7]), 2)
    assert fine == pytest.approx(math.log(0.0075) - b / (2 * a))


@pytest.mark.parametrize("losses", [[3.0, 3.1, 3.3], [3.3, 3.1, 3.0]])
def test_a_best_rate_at_the_end_of_a_scan_is_said_to_be_there(losses):
    best, curvature, at_edge = optimum([0.01, 0.02, 0.04], losses)
    assert at_edge
    assert math.isnan(curvature)
    assert math.exp(best) == pytest.approx([0.01, 0.02, 0.04][int(np.argmin(losses))])


def test_the_exponents_of_a_sweep_without_noise_come_back():
    assert fitted(optima(bowls(TRUE))) == pytest.approx(TRUE, rel=1e-6)


def test_nine_of_ten_intervals_hold_the_truth_of_a_noisy_sweep():
    inside = [
        low <= value <= high
        for seed in range(40)
        for value, (low, high) in zip(TRUE, intervals(optima(bowls(TRUE, 0.15, seed))), strict=True)
    ]
    assert 0.8 <= np.mean(inside) <= 0.97


@pytest.mark.parametrize(("exponent", "better"), [(0.5, "width"), (0.2, "power law")])
def test_what_predicts_the_largest_size_is_the_rule_that_made_it(exponent, better):
    noisy = optima(bowls(Rule(0.008, exponent, 0.2), noise=0.1, seed=3))
    by_rule = {one.rule: one.factor for one in held_out(noisy) if one.what == "largest size"}
    assert min(by_rule, key=by_rule.__getitem__) == better


def test_the_best_rate_of_a_seed_is_that_of_its_lowest_loss():
    losses = {"100": ("3", "3.5", "4"), "101": ("5", "3.9", "4")}
    rows = [
        {"experts": "1", "seed": seed, "rate": rate, "loss": loss}
        for seed, each in losses.items()
        for rate, loss in zip(("0.01", "0.02", "0.04"), each, strict=True)
    ]
    assert best_rate(rows, 1, 100) == 0.01
    assert best_rate(rows, 1, 101) == 0.02


def test_a_scan_begins_at_the_best_rate_of_the_budget_below():
    rows = [
        {"model": "glam_tiny", "tokens": tokens, "rate": rate, "loss": loss}
        for tokens, rate, loss in (
            *(("500000", "0.04", "3"), ("500000", "0.02", "4")),
            *(("1000000", "0.04", "3"), ("1000000", "0.02", "2.9")),
        )
    ]
    assert first_rate(rows, "glam_tiny", 2_000_000) == 0.02
    assert first_rate(rows, "glam_tiny", 1_000_000) == 0.04
    assert first_rate(rows, "glam_tiny", 500_000) == FIRST["glam_tiny"]
    assert first_rate(rows, "glam_mini", 2_000_000) == FIRST["glam_mini"]


def test_the_rule_that_is_built_in_is_the_fitted_one():
    fitted_here = yaml.safe_load((ROOT / "experiments/learning_rate/rule.yaml").read_text())
    conf = yaml.safe_load((ROOT / "conf/optimizer/adamw.yaml").read_text())
    assert conf["auto"] == fitted_here == dataclasses.asdict(RateRule())
