"""The law of loss in active parameters, experts and tokens, on runs whose law is known."""

import dataclasses

import numpy as np
import pytest

from glam.analysis import scaling_law
from glam.analysis.law_forms import NAMES, floor_of, losses, place
from glam.analysis.scaling_law import fit, interval
from glam.analysis.wild_bootstrap import Wild, wild
from glam.errors import UserError

TRUTH = np.array([1.8, 0.2, 0.30, 0.1, 0.35, 0.35, 0.01, -0.03, 0.0, 0.0, 0.0])
KAPLAN = np.array([0.0, 1.2, 0.10, 1.1, 0.16, 0.35, 0.01, -0.03, 1.0, 0.0, 0.0])
PINNED = np.array([1.2, 0.5, 0.15, 0.5, 0.20, 0.35, 0.01, -0.03, 0.6, 0.0, 0.0])
JOINT = np.array([1.8, 0.2, 0.30, 0.1, 0.35, 0.35, 0.01, -0.03, 0.0, 0.03, -0.01])
LAWS = {
    "chinchilla": TRUTH,
    "kaplan": KAPLAN,
    "power_mean": PINNED,
    "lead": PINNED,
    "joint": JOINT,
}
FORMS = pytest.mark.parametrize("form", LAWS)
BEYOND = (np.array([1e7]), np.array([64.0]), np.array([1e8]))
NO_SATURATION = np.array(NAMES) != "x"


def test_experts_saturate_at_their_most(runs_of_law, law_centre):
    many, centre = np.array([1e12]), np.array([law_centre[0]])
    law = fit(runs_of_law("chinchilla", TRUTH), samples=20)
    times = law.multiplier(centre, many, np.array([law_centre[1]]))[0]
    assert times == pytest.approx((1 / 0.01) ** 0.35, rel=1e-3)


@FORMS
def test_without_noise_the_constants_come_back(form, runs_of_law):
    law = fit(runs_of_law(form, LAWS[form], seeds=1), form, samples=20, floor=1.2)
    np.testing.assert_allclose(law.constants, LAWS[form], rtol=1e-3, atol=1e-4)


def test_constants_that_the_grid_cannot_tell_are_named(runs_of_law):
    runs = runs_of_law("chinchilla", TRUTH, noise=0.004, experts=(1,))
    said = " ".join(fit(runs, samples=50).warnings())
    for name in ("gamma", "x", "c"):
        assert f"{name} is held at 0" in said


def test_saturation_that_does_not_show_is_pinned_at_none_and_said(runs_of_law):
    runs = runs_of_law(
        "chinchilla", TRUTH * NO_SATURATION, noise=0.004, random=np.random.default_rng(1)
    )
    law = fit(runs, samples=50)
    assert law.pinned == {"x": 0.0}
    assert not law.draws[:, NAMES.index("x")].any()
    assert "x (1 / E_max) is pinned at 0: the grid does not determine it" in law.warnings()


def test_a_floor_far_below_the_losses_is_pinned_and_said(runs_of_law):
    """Seen from a loss of 8 and more, no grid tells a floor of 1 from one of 2."""
    far = np.array([1.2, 1.5, 0.05, 1.2, 0.05, 0.3, 0, 0, 0, 0, 0])
    law = fit(runs_of_law("chinchilla", far, noise=0.004), samples=50)
    assert law.pinned["e"] == pytest.approx(floor_of())
    np.testing.assert_allclose(law.draws[:, 0], floor_of())
    assert any(
        line.startswith("e (the floor) is pinned at 1.15: the grid") for line in law.warnings()
    )


def test_a_floor_that_the_grid_shows_is_fitted(runs_of_law):
    law = fit(runs_of_law("chinchilla", TRUTH, noise=0.002), samples=50)
    assert "e" not in law.pinned
    assert law.constants[0] == pytest.approx(1.8, abs=0.2)


def test_a_form_with_a_pinned_floor_takes_the_one_it_is_given(runs_of_law):
    law = fit(runs_of_law("power_mean", PINNED, noise=0.002), "power_mean", samples=5, floor=0.9)
    assert law.pinned["e"] == law.constants[0] == 0.9
    assert any("this form does not fit it" in line for line in law.warnings())


def test_too_few_cells_say_what_is_missing_in_one_line(runs_of_law):
    runs = runs_of_law("chinchilla", TRUTH)
    few = runs.where(runs.active < 5e5)
    with pytest.raises(UserError, match=r"3 sizes.*the study has 2") as refused:
        fit(few)
    assert "\n" not in str(refused.value)


def held(form, runs_of_law, *, off, laws=200, samples=150):
    """The share of 90 % intervals of a prediction and of each constant that hold the truth. Seeds
    are shared by all cells, and a part of the noise may be that of a whole cell."""
    told = [
        name for name in ("alpha", "beta", "gamma", "c", "log_p") if LAWS[form][NAMES.index(name)]
    ]
    random, found = np.random.default_rng(5), np.zeros(1 + len(told))
    for i in range(laws):
        true = LAWS[form] * NO_SATURATION * random.uniform(0.85, 1.15, len(NAMES))
        runs = runs_of_law(form, true, noise=0.004, shared=0.002, off=off, random=random)
        law = fit(runs, form, samples=samples, seed=i, floor=float(true[0]))
        low, high = interval(law.predict(*BEYOND)[1])
        loss = losses(true[None], place(*BEYOND, law.centre, form))[0][0]
        found[0] += low[0] <= loss[0] <= high[0]
        low, high = interval(law.draws)
        found[1:] += ((low <= true) & (true <= high))[[NAMES.index(name) for name in told]]
    return dict(zip(["prediction", *told], found / laws, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["chinchilla", "kaplan"])
@pytest.mark.parametrize("off", [0.0, 0.004], ids=["the law holds", "cells lie off it"])
def test_nine_in_ten_intervals_hold_the_truth(off, form, runs_of_law):
    """A share of 200 laws has an error of 0.02."""
    share = held(form, runs_of_law, off=off)
    assert all(0.83 <= one <= 0.97 for one in share.values()), share
    assert 0.86 <= np.mean(list(share.values())) <= 0.94, share


def test_intervals_hold_the_truth_and_wrong_ones_do_not(runs_of_law, monkeypatch):
    """What the slow test asks of 200 laws, of 30: the mean over a prediction and four constants,
    which differs from law to law by some 0.12."""

    def mean():
        return np.mean([*held("kaplan", runs_of_law, off=0.008, laws=30, samples=100).values()])

    assert 0.82 <= mean() <= 0.98

    def as_if_independent(residuals, columns, weight, samples, random):
        """The noise of runs alone, as if the cells did not lie off the law."""
        right = wild(residuals, columns, weight, samples, random)
        return Wild(right.noise * 0.004 / np.hypot(0.004, np.sqrt(3) * 0.008), *right[1:])

    with monkeypatch.context() as wrong:
        wrong.setattr(scaling_law, "wild", as_if_independent)
        assert mean() < 0.7

    def not_refitted(begin, at, target, weight, free, high, delta):
        found = true_minimise(begin, at, target, weight, free, high, delta)
        return found if len(target) == 1 else (begin, found[1])

    true_minimise = scaling_law.minimise
    with monkeypatch.context() as wrong:
        wrong.setattr(scaling_law, "minimise", not_refitted)
        assert mean() < 0.7


def test_a_cell_without_a_seed_is_compared_as_if_it_had_it(runs_of_law):
    runs = runs_of_law("chinchilla", TRUTH, shared=0.05)
    whole = fit(runs, samples=20)
    best = runs.seed == int(np.argmax(list(whole.seed_effects.values())))
    patchy = fit(runs.where(~best | (runs.tokens < 5e6)), samples=20)
    for law in (whole, patchy):
        assert np.abs(law.residuals).max() < 1e-3


def test_residuals_are_of_the_runs_in_their_order(runs_of_law):
    runs = runs_of_law("chinchilla", TRUTH, noise=0.01)
    order = np.random.default_rng(0).permutation(len(runs.loss))
    shuffled = scaling_law.Runs(**{name: v[order] for name, v in vars(runs).items()})
    first, second = fit(runs, samples=20), fit(shuffled, samples=20)
    np.testing.assert_allclose(first.constants, second.constants, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(first.residuals[order], second.residuals, atol=1e-5)
    fitted = first.predict(runs.active, runs.experts, runs.tokens)[0]
    effects = np.array([first.seed_effects[seed] for seed in runs.seed.tolist()])
    np.testing.assert_allclose(np.log(runs.loss / fitted) - effects, first.residuals, atol=1e-9)


def test_noise_is_that_of_cells_and_its_part_that_of_runs(runs_of_law):
    runs = runs_of_law("chinchilla", TRUTH, noise=0.003, off=0.006)
    law = fit(runs, samples=20)
    assert law.run_noise == pytest.approx(0.003, rel=0.2)
    assert law.noise == pytest.approx(np.hypot(0.003, np.sqrt(3) * 0.006), rel=0.25)


def test_a_run_left_out_is_left_out_everywhere(runs_of_law):
    runs = runs_of_law("chinchilla", TRUTH)
    kept = runs.where(runs.tokens < 2e7)
    assert {len(v) for v in dataclasses.asdict(kept).values()} == {len(runs.loss) * 3 // 4}
