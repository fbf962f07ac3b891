"""Runs of a law that is known."""

import numpy as np
import pytest

from glam.analysis.law_forms import losses, place
from glam.analysis.scaling_law import Runs

SIZES, EXPERTS, TOKENS = (1e5, 3e5, 1e6, 3e6), (1, 4, 16, 64), (1e6, 3e6, 1e7, 3e7)
CENTRE = (float(np.exp(np.log(SIZES).mean())), float(np.exp(np.log(TOKENS).mean())))


@pytest.fixture
def law_centre():
    """N0 and D0 of the grid."""
    return CENTRE


@pytest.fixture
def runs_of_law():
    """A grid of runs whose losses follow a form; `noise` is that of runs, `shared` of seeds and
    `off` of whole cells, which lie off the law."""

    def simulated(
        form, truth, *, noise=0.0, shared=0.0, off=0.0, seeds=3, experts=EXPERTS, random=None
    ):
        random = random or np.random.default_rng(0)
        grid = [(n, e, d, s) for n in SIZES for e in experts for d in TOKENS for s in range(seeds)]
        active, count, tokens, seed = np.array(grid, dtype=float).T
        at = place(active, count, tokens, CENTRE, form)
        exact = losses(truth[None], at)[0][0]
        seed = seed.astype(int)
        log_noise = random.normal(0, noise, len(exact)) + random.normal(0, shared, seeds)[seed]
        log_noise += np.repeat(random.normal(0, off, len(exact) // seeds), seeds)
        return Runs(
            active=active, experts=count, tokens=tokens, loss=exact * np.exp(log_noise),
            flops=2 * active, seed=seed,
        )  # fmt: skip

    return simulated
