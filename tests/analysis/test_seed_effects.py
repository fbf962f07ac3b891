"""What a seed adds, told from what its cells are."""

import numpy as np
import pytest

from glam.analysis.seed_effects import run_noise, seed_effects

CELLS, SEEDS = 12, 3
CELL, SEED = np.repeat(np.arange(CELLS), SEEDS), np.tile(np.arange(SEEDS), CELLS)
EFFECTS = np.array([-0.05, 0.01, 0.04])


def log_loss(noise=0.0):
    random = np.random.default_rng(0)
    of_cell = random.normal(1, 0.3, CELLS)
    return of_cell[CELL] + EFFECTS[SEED] + random.normal(0, noise, len(CELL))


def found(kept, noise=0.0):
    effects, index, spread = seed_effects(log_loss(noise)[kept], SEED[kept], CELL[kept])
    return effects[np.unique(index)], spread


def test_effects_are_what_paired_runs_differ_by():
    effects, spread = found(CELL >= 0)
    assert effects == pytest.approx(EFFECTS - EFFECTS.mean())
    assert spread == pytest.approx(EFFECTS.std(ddof=1))


def test_a_cell_without_a_seed_is_compared_as_if_it_had_it():
    effects, _ = found((CELL < 4) | (SEED != 1))
    assert effects == pytest.approx(EFFECTS - EFFECTS.mean())


def test_seeds_that_share_no_cell_are_not_told_from_their_cells():
    effects, _ = found((SEED == 0) & (CELL < 6) | (SEED == 1) & (CELL >= 6))
    assert effects == pytest.approx([0, 0], abs=1e-12)


def test_seeds_are_compared_by_others_that_share_cells_with_both():
    chain = (SEED == 0) & (CELL < 6) | (SEED == 1) | (SEED == 2) & (CELL >= 6)
    effects, _ = found(chain)
    assert effects == pytest.approx(EFFECTS - EFFECTS.mean())


def test_the_noise_of_runs_is_without_what_cells_and_seeds_add():
    assert run_noise(log_loss(), SEED, CELL) == pytest.approx(0, abs=1e-12)
    noises = run_noise(log_loss(0.02), SEED, CELL)
    assert noises == pytest.approx(0.02, rel=0.35)


def test_one_seed_adds_nothing():
    one = SEED == 0
    effects, spread = found(one)
    assert (effects.tolist(), spread) == ([0.0], 0.0)
