"""Each form is the one that its source writes, and its slopes are right."""

import numpy as np
import pytest

from glam.analysis.law_forms import FORMS, NAMES, dense_size, floor_of, losses, place

CENTRE = (5e5, 5e6)
N, E, D = np.array([2e5, 5e6]), np.array([8.0, 128.0]), np.array([4e6, 2e7])
DENSE = np.ones(2)
POINT = {
    "e": 1.2, "log_a": 0.4, "alpha": 0.2, "log_b": 0.3, "beta": 0.3, "gamma": 0.3, "x": 0.02,
    "c": -0.04, "log_p": 0.5, "omega": 0.03, "zeta": -0.01,
}  # fmt: skip


def constants(**some):
    return np.array([some.get(name, 0.0) for name in NAMES])


def of_form(form):
    held = FORMS[form].held
    return constants(**{name: value for name, value in POINT.items() if name not in held})


def loss(values, form, experts=E):
    return losses(values[None], place(N, experts, D, CENTRE, form))[0][0]


def saturating(experts, most):
    """Clark et al. 2022, equation 16, with E_start = 1."""
    return 1 / (1 / (experts - 1 + 1 / (1 - 1 / most)) + 1 / most)


def test_with_one_expert_the_sum_is_chinchillas():
    a, b = np.exp(0.4) * CENTRE[0] ** 0.2, np.exp(0.3) * CENTRE[1] ** 0.3
    written = 1.2 + a * N**-0.2 + b * D**-0.3
    np.testing.assert_allclose(loss(of_form("chinchilla"), "chinchilla", DENSE), written)


def test_without_a_floor_the_law_can_be_kaplans():
    """Equation 1.5 of Kaplan et al. 2020, with its constants of page 5."""
    alpha_n, alpha_d, critical_n, critical_d = 0.076, 0.103, 6.4e13, 1.8e13
    written = ((critical_n / N) ** (alpha_n / alpha_d) + critical_d / D) ** alpha_d
    ours = constants(
        log_a=alpha_n * np.log(critical_n / CENTRE[0]), alpha=alpha_n, beta=alpha_d,
        log_b=alpha_d * np.log(critical_d / CENTRE[1]), log_p=-np.log(alpha_d),
    )  # fmt: skip
    np.testing.assert_allclose(loss(ours, "kaplan", DENSE), written)


def test_the_power_mean_is_the_skaling_law():
    """E + A (N^-alpha + R D^-beta)^k, with k = 1 / p."""
    p = np.exp(0.5)
    of_size = np.exp(0.4 * p) * (N / CENTRE[0]) ** (-0.2 * p)
    of_data = np.exp(0.3 * p) * (D / CENTRE[1]) ** (-0.3 * p)
    written = 1.2 + (of_size + of_data) ** (1 / p)
    np.testing.assert_allclose(loss(of_form("power_mean"), "power_mean", DENSE), written)


def test_the_joint_form_is_that_of_joint_moe_laws():
    """a Ê^delta N^(alpha + gamma ln Ê) + b Ê^omega D^(beta + zeta ln Ê) + c of Ludziejewski et al.
    2025, whose exponents are negative, at N and D over those of the centre."""
    count, n, d = saturating(E, 1 / 0.02), N / CENTRE[0], D / CENTRE[1]
    delta, gamma = -0.2 * 0.3, -0.2 * -0.04
    of_size = np.exp(0.4) * count**delta * n ** (-0.2 + gamma * np.log(count))
    of_data = np.exp(0.3) * count**-0.03 * d ** (-0.3 + 0.01 * np.log(count))
    np.testing.assert_allclose(loss(of_form("joint"), "joint"), 1.2 + of_size + of_data)


def test_in_the_form_of_leads_the_multiplier_is_one_number_for_tokens_per_parameter():
    values, scale = of_form("lead"), 7.0
    here, there = (
        place(scale_ * N, E, scale_ * D, CENTRE, "lead").along for scale_ in (1.0, scale)
    )
    np.testing.assert_allclose(here, there)
    more = place(N, E, 10 * D, CENTRE, "lead")
    fewer = place(N, E, D, CENTRE, "lead")
    # c is negative: with more tokens a sparse model is worth a larger dense one.
    assert (dense_size(values[None], more) > dense_size(values[None], fewer)).all()


@pytest.mark.parametrize("form", FORMS)
def test_slopes_are_those_of_finite_differences(form):
    at, values = place(N, E, D, CENTRE, form), of_form(form)
    _, slopes = losses(values[None], at)
    for i, name in enumerate(NAMES):
        step = np.zeros(len(NAMES))
        step[i] = 1e-6
        up, down = (losses((values + sign * step)[None], at)[0][0] for sign in (1, -1))
        np.testing.assert_allclose(
            slopes[0, :, i], (up - down) / 2e-6, rtol=1e-5, atol=1e-8, err_msg=name
        )


@pytest.mark.parametrize("form", FORMS)
def test_the_dense_size_of_a_sparse_model_has_its_loss(form):
    values, at = of_form(form), place(N, E, D, CENTRE, form)
    dense = CENTRE[0] * np.exp(dense_size(values[None], at)[0])
    there = place(dense, DENSE, D, CENTRE, form)
    np.testing.assert_allclose(losses(values[None], there)[0][0], loss(values, form))


def test_no_dense_model_has_a_loss_below_the_floor_and_the_term_in_tokens():
    values = of_form("joint")
    values[NAMES.index("omega")] = 0.4
    values[NAMES.index("log_a")] = -5
    assert np.isinf(dense_size(values[None], place(N, E, D, CENTRE, "joint"))).all()


def test_a_floor_in_bits_a_byte_is_one_in_nats_a_token():
    assert floor_of(4.0) == pytest.approx(0.6 * 4 * np.log(2))
    assert floor_of(4.0) == pytest.approx(1.69, abs=0.03)  # Hoffmann et al. 2022
