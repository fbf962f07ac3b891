"""Parabolas for each budget are biased without noise, and the joint fit is not."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from experiments.scaling_law.parabolas import (
    ALPHA,
    BETA,
    BUDGETS,
    A,
    B,
    Points,
    best_size,
    figure,
    loss,
    lowest,
    points,
    rows,
)  # fmt: skip


def test_the_best_size_is_where_the_loss_is_least():
    for budget in BUDGETS.tolist():
        found = minimize_scalar(
            lambda log_n, c=budget: loss(np.exp(log_n), c / (6 * np.exp(log_n))), (15, 20)
        )
        best = best_size(np.array([budget]), A, ALPHA, B, BETA)[0]
        assert np.exp(found.x) == pytest.approx(best, rel=1e-4)


def test_a_parabola_gives_its_own_lowest_point():
    active = np.exp(np.linspace(10, 12, 7))
    one = Points(1e18, active, (np.log(active) - 11.3) ** 2 + 2)
    assert lowest(one) == pytest.approx(np.exp(11.3))
    assert np.isnan(lowest(one._replace(loss=-one.loss)))


@pytest.fixture(scope="module")
def found():
    return list(rows())


def test_of_a_grid_parabolas_find_a_wrong_exponent_and_the_joint_fit_the_right_one(found):
    for row in found:
        true, parabola, joint = (
            float(row[f"{name}_exponent"]) for name in ("true", "parabola", "joint")
        )
        assert true == pytest.approx(BETA / (ALPHA + BETA), abs=1e-4)
        assert joint == pytest.approx(true, abs=2e-4)
        if row["sizes"] == "fixed":
            assert true - parabola > 0.015
        assert float(row["joint_size_last"]) == pytest.approx(1, abs=0.002)


def test_even_about_the_best_size_a_parabola_is_off_the_further_it_reaches(found):
    off = [float(row["parabola_size_first"]) for row in found if row["sizes"] == "centred"]
    assert off == sorted(off)
    assert off[-1] > 1.05


def test_it_is_drawn(found):
    assert len(figure(found).axes) == 2
    assert {len(one.active) for one in points("fixed", 2.0)} == {7}
