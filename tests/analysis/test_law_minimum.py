"""The minimum of a law's Huber loss."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from glam.analysis import law_minimum
from glam.analysis.law_forms import FORMS, HIGH, LOW, NAMES, losses, place

TRUTH = {
    "chinchilla": [1.8, 0.2, 0.30, 0.1, 0.35, 0.35, 0.01, -0.03, 0.0, 0.0, 0.0],
    "kaplan": [0.0, 1.2, 0.10, 1.1, 0.16, 0.35, 0.01, -0.03, 1.0, 0.0, 0.0],
    "joint": [1.8, 0.2, 0.30, 0.1, 0.35, 0.35, 0.01, -0.03, 0.0, 0.02, 0.01],
}


@pytest.mark.parametrize("form", TRUTH)
def test_it_is_that_of_scipy(form, runs_of_law, law_centre):
    truth = np.array(TRUTH[form])
    runs = runs_of_law(form, truth, noise=0.004, seeds=1)
    at = place(runs.active, runs.experts, runs.tokens, law_centre, form)
    free = np.array([name not in FORMS[form].held for name in NAMES])
    random = np.random.default_rng(1)
    weight, target, delta = random.uniform(0.5, 2, len(runs.loss)), np.log(runs.loss), 0.005

    def residuals(some):
        constants = truth.copy()
        constants[free] = some
        return (np.log(losses(constants[None], at)[0][0]) - target) * weight

    high = np.where(np.isfinite(HIGH), HIGH, runs.loss.min())
    slow = least_squares(
        residuals, truth[free], loss="huber", f_scale=delta, bounds=(LOW[free], high[free]),
        xtol=1e-12, ftol=1e-12,
    )  # fmt: skip
    begin = law_minimum.starts(float(runs.loss.min()), float(runs.loss.mean()), free, 0.0)
    found, costs = law_minimum.minimise(begin, at, target[None], weight, free, high, delta)
    assert costs.min() == pytest.approx(slow.cost, rel=1e-3)
    fast = losses(found[[costs.argmin()]], at)[0][0]
    np.testing.assert_allclose(np.log(fast), residuals(slow.x) / weight + target, atol=2e-4)


def test_what_is_held_stays_where_it_starts(runs_of_law, law_centre):
    runs = runs_of_law("chinchilla", np.array(TRUTH["chinchilla"]), noise=0.01, seeds=1)
    at = place(runs.active, runs.experts, runs.tokens, law_centre, "power_mean")
    free = np.array([name not in ("e", "x", "omega", "zeta") for name in NAMES])
    begin = law_minimum.starts(float(runs.loss.min()), float(runs.loss.mean()), free, 1.1)
    target = np.log(runs.loss)[None]
    found, _ = law_minimum.minimise(begin, at, target, np.ones(64), free, HIGH.copy(), np.inf)
    assert len(begin) > 1
    np.testing.assert_allclose(found[:, 0], 1.1)
    np.testing.assert_array_equal(found[:, [6, 9, 10]], 0)
