"""The law of loss in active parameters, experts and tokens, on runs whose law is known."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import least_squares

from glam.analysis import scaling_law
from glam.analysis.scaling_law import NAMES, Runs, fit, interval, losses
from glam.errors import UserError

SIZES, EXPERTS, TOKENS = (1e5, 3e5, 1e6, 3e6), (1, 4, 16, 64), (1e6, 3e6, 1e7, 3e7)
TRUTH = np.array([1.8, 0.2, 0.30, 0.1, 0.35, 0.35, 0.01, -0.03, 0.0])
KAPLAN = np.array([0.0, 1.2, 0.10, 1.1, 0.16, 0.35, 0.01, -0.03, 1.0])
FORMS = pytest.mark.parametrize(
    ("form", "truth"), [("chinchilla", TRUTH), ("kaplan", KAPLAN)], ids=["chinchilla", "kaplan"]
)
CENTRE = (float(np.exp(np.log(SIZES).mean())), float(np.exp(np.log(TOKENS).mean())))
BEYOND = (np.array([1e7]), np.array([64.0]), np.array([1e8]))


def place(active, experts, tokens):
    return np.log(active / CENTRE[0]), experts, np.log(tokens / CENTRE[1])


def simulated(
    truth=TRUTH, *, noise=0.0, shared=0.0, off=0.0, seeds=3, experts=EXPERTS, random=None
):
    random = random or np.random.default_rng(0)
    grid = [(n, e, d, s) for n in SIZES for e in experts for d in TOKENS for s in range(seeds)]
    active, count, tokens, seed = np.array(grid, dtype=float).T
    exact = losses(truth[None], place(active, count, tokens))[0][0]
    seed = seed.astype(int)
    log_noise = random.normal(0, noise, len(exact)) + random.normal(0, shared, seeds)[seed]
    log_noise += np.repeat(random.normal(0, off, len(exact) // seeds), seeds)
    loss = exact * np.exp(log_noise)
    return Runs(active=active, experts=count, tokens=tokens, loss=loss, flops=2 * active, seed=seed)


def test_with_one_expert_the_law_is_chinchillas():
    n, d = np.array([2e5, 5e6]), np.array([4e6, 2e7])
    found = losses(TRUTH[None], place(n, np.ones(2), d))[0][0]
    e, log_a, alpha, log_b, beta = TRUTH[:5]
    a, b = np.exp(log_a) * CENTRE[0] ** alpha, np.exp(log_b) * CENTRE[1] ** beta
    np.testing.assert_allclose(found, e + a * n**-alpha + b * d**-beta, rtol=1e-12)


def test_without_a_floor_the_law_can_be_kaplans():
    """Equation 1.5 of Kaplan et al. 2020, with its constants of page 5."""
    alpha_n, alpha_d, critical_n, critical_d = 0.076, 0.103, 6.4e13, 1.8e13
    n, d = np.array([1e8, 1e9]), np.array([3e9, 2e11])
    written = ((critical_n / n) ** (alpha_n / alpha_d) + critical_d / d) ** alpha_d
    log_a = alpha_n * np.log(critical_n / CENTRE[0])
    log_b = alpha_d * np.log(critical_d / CENTRE[1])
    ours = np.array([0, log_a, alpha_n, log_b, alpha_d, 0, 0, 0, -np.log(alpha_d)])
    found = losses(ours[None], place(n, np.ones(2), d))[0][0]
    np.testing.assert_allclose(found, written, rtol=1e-12)


def test_experts_saturate_at_their_most():
    many = np.array([1e12])
    law = fit(simulated(), samples=2)
    centre = np.array([CENTRE[0]])
    assert law.multiplier(centre, many)[0] == pytest.approx((1 / 0.01) ** 0.35, rel=1e-3)


@pytest.mark.parametrize("at_constants", [TRUTH, KAPLAN], ids=["chinchilla", "kaplan"])
def test_slopes_are_those_of_finite_differences(at_constants):
    at = place(np.array([2e5, 5e6]), np.array([8.0, 128.0]), np.array([4e6, 2e7]))
    _, slopes = losses(at_constants[None], at)
    for i, name in enumerate(NAMES):
        step = np.zeros(len(NAMES))
        step[i] = 1e-6
        up, down = (losses((at_constants + sign * step)[None], at)[0][0] for sign in (1, -1))
        np.testing.assert_allclose(slopes[0, :, i], (up - down) / 2e-6, rtol=1e-5, err_msg=name)


@FORMS
def test_without_noise_the_constants_come_back(form, truth):
    law = fit(simulated(truth, seeds=1), form, samples=2)
    np.testing.assert_allclose(law.constants, truth, rtol=1e-3, atol=1e-4)


@FORMS
def test_the_minimum_is_that_of_scipy(form, truth):
    runs = simulated(truth, noise=0.004)
    law = fit(runs, form, samples=2)
    at = place(runs.active, runs.experts, runs.tokens)

    def residuals(free):
        constants = truth.copy()
        constants[law.free] = free
        return np.log(losses(constants[None], at)[0][0]) - np.log(runs.loss)

    delta = scaling_law.HUBER * law.noise
    high = np.where(np.isfinite(scaling_law.HIGH), scaling_law.HIGH, runs.loss.min())
    bounds = (scaling_law.LOW[law.free], high[law.free])
    slow = least_squares(
        residuals, truth[law.free], loss="huber", f_scale=delta, bounds=bounds, xtol=1e-12,
        ftol=1e-12,
    )  # fmt: skip
    fast = losses(law.constants[None], at)[0][0]
    np.testing.assert_allclose(np.log(fast), residuals(slow.x) + np.log(runs.loss), atol=2e-4)


def test_constants_that_the_grid_cannot_tell_are_named():
    said = " ".join(fit(simulated(noise=0.004, experts=(1,)), samples=50).warnings())
    for name in ("gamma", "x", "c"):
        assert f"{name} is held at 0" in said
    unsaturated = TRUTH * (np.array(NAMES) != "x")
    said = " ".join(
        fit(
            simulated(unsaturated, noise=0.004, random=np.random.default_rng(1)), samples=50
        ).warnings()
    )
    assert "x is not identified" in said


def test_too_few_cells_say_what_is_missing_in_one_line():
    runs = simulated()
    few = runs.where(runs.active < 5e5)
    with pytest.raises(UserError, match=r"3 sizes.*the study has 2") as refused:
        fit(few)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
@FORMS
@pytest.mark.parametrize("off", [0.0, 0.004], ids=["the law holds", "cells lie off it"])
def test_nine_in_ten_intervals_hold_the_truth(off, form, truth):
    """Seeds are shared by all cells, and a part of the noise may be that of a whole cell."""
    told = [name for name in NAMES if name != scaling_law.FORMS[form]]
    told = [name for name in told if name not in ("log_a", "log_b", "x")]
    random = np.random.default_rng(5)
    held = np.zeros(1 + len(told))
    laws = 200
    for i in range(laws):
        true = truth * random.uniform(0.85, 1.15, len(truth))
        runs = simulated(true, noise=0.004, shared=0.002, off=off, random=random)
        law = fit(runs, form, samples=150, seed=i)
        low, high = interval(law.predict(*BEYOND)[1])
        loss = losses(true[None], place(*BEYOND))[0][0]
        held[0] += low[0] <= loss[0] <= high[0]
        low, high = interval(law.draws)
        held[1:] += ((low <= true) & (true <= high))[[NAMES.index(name) for name in told]]
    share = dict(zip(["prediction", *told], held / laws, strict=True))
    assert all(0.85 <= one <= 0.95 for one in share.values()), share


def test_a_cell_without_a_seed_is_compared_as_if_it_had_it():
    runs = simulated(shared=0.05)
    whole = fit(runs, samples=2)
    best = runs.seed == int(np.argmax(list(whole.seed_effects.values())))
    patchy = fit(runs.where(~best | (runs.tokens < 5e6)), samples=2)
    for law in (whole, patchy):
        assert np.abs(law.residuals).max() < 1e-3


def test_a_run_left_out_is_left_out_everywhere():
    runs = simulated()
    kept = runs.where(runs.tokens < 2e7)
    assert {len(v) for v in dataclasses.asdict(kept).values()} == {len(runs.loss) * 3 // 4}


def test_seeds_that_share_no_cell_are_not_told_from_their_cells():
    """What a size has lost is not what its own seed adds."""
    runs = simulated(seeds=2)
    apart = runs.where(runs.seed == (runs.active > 5e5))
    law = fit(apart, samples=2)
    assert law.seed_effects == pytest.approx({0: 0.0, 1: 0.0}, abs=1e-12)
    assert np.abs(law.residuals).max() < 1e-3


def test_seeds_are_compared_by_others_that_share_cells_with_both():
    runs = simulated(shared=0.05)
    first, last = runs.experts < 5, runs.experts > 5
    chain = (runs.seed == 0) & first | (runs.seed == 1) | (runs.seed == 2) & last
    whole, part = fit(runs, samples=2), fit(runs.where(chain), samples=2)
    assert part.seed_effects == pytest.approx(whole.seed_effects, abs=1e-6)
