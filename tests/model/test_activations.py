"""GELU by itself, gated, and on experts' rows, against float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from glam.model.activations import gated_gelu, gated_rows_backward, gelu, gelu_values

pytestmark = pytest.mark.usefixtures("kernels_here")
DTYPES = [torch.float32, torch.bfloat16]
# Rounding of the result, and what float32's arithmetic leaves of numbers near 1.
CLOSE = {
    torch.float32: {"rtol": 1e-6, "atol": 4e-7},
    torch.bfloat16: {"rtol": 2**-8, "atol": 4e-7},
}
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def assert_close(found, exact, dtype, size=1.0):
    """`size` is that of the numbers which float32's arithmetic meets on the way."""
    assert found.dtype == dtype
    tolerance = {**CLOSE[dtype], "atol": CLOSE[dtype]["atol"] * size}
    torch.testing.assert_close(found.double(), exact, **tolerance)


def points(dtype: torch.dtype) -> torch.Tensor:
    """All that differs: around zero, where the tails end, and far beyond."""
    near = torch.linspace(-16, 16, 20_011, dtype=torch.float64)
    small = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1e-6, -1e-6], dtype=torch.float64)
    far = torch.tensor([1e2, -1e2, 1e4, -1e4, 1e20, -1e20], dtype=torch.float64)
    return torch.cat([near, small, far]).to(dtype)


def of_sum(form, *inputs):
    """The output and the gradients of a weighted sum of it."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    y = form(*inputs)
    weight = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).to(inputs[0]).view_as(y)
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), inputs)]


def in_float64(form, *inputs):
    """The same of the same numbers; the weights too are those of the narrow type."""
    wide = [x.double().requires_grad_() for x in inputs]
    y = form(*wide)
    weight = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).to(inputs[0]).view_as(y)
    return [y.detach(), *torch.autograd.grad((y * weight.double()).sum(), wide)]


def gated_by_definition(gate, x):
    return functional.gelu(gate) * x


@dtypes
def test_gelu_and_its_derivative_are_those_of_float64_everywhere(dtype):
    x = points(dtype)
    for found, exact in zip(of_sum(gelu, x), in_float64(functional.gelu, x), strict=True):
        assert_close(found, exact, dtype)
    assert torch.equal(gelu_values(x), gelu(x))


@dtypes
def test_gated_gelu_and_its_gradients_are_those_of_float64(dtype):
    gate, x = points(dtype), torch.randn(len(points(dtype))).to(dtype)
    found, exact = of_sum(gated_gelu, gate, x), in_float64(gated_by_definition, gate, x)
    for one, other in zip(found, exact, strict=True):
        assert_close(one, other, dtype, size=5)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.sampled_from([(), (1,), (3,), (1, 17), (5, 1), (2, 3, 31), (33,), (1030,)]),
    dtype=st.sampled_from(DTYPES),
    size=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_any_shape_is_kept(shape, dtype, size):
    gate, x = (size * torch.randn(2, *shape)).to(dtype).unbind(0)
    found, exact = of_sum(gated_gelu, gate, x), in_float64(gated_by_definition, gate, x)
    for one, other in zip(found, exact, strict=True):
        assert_close(one, other, dtype, size=5 * max(1, size) ** 2)
    assert_close(gelu(x), functional.gelu(x.double()), dtype, size=max(1, size))


@dtypes
def test_inputs_and_gradients_may_have_any_strides(dtype):
    gate, x = torch.randn(2, 7, 9).to(dtype).unbind(0)
    found = of_sum(lambda a, b: gated_gelu(a.t(), b.t()).t(), gate, x)
    for one, other in zip(found, in_float64(gated_by_definition, gate, x), strict=True):
        assert_close(one, other, dtype, size=5)
    found = of_sum(lambda a: gelu(a.t()).t(), gate)
    for one, other in zip(found, in_float64(functional.gelu, gate), strict=True):
        assert_close(one, other, dtype)


@dtypes
def test_nan_and_infinity_come_out_as_such(dtype):
    x = torch.tensor([1.0, torch.nan, torch.inf, -1.0], dtype=dtype)
    one = torch.ones_like(x)
    for y in (gelu(x), gated_gelu(x, one), gated_gelu(one, x)):
        assert y.isnan().tolist() == [False, True, False, False]
        assert y[2] == torch.inf
    for grad in (*of_sum(gelu, x)[1:], *of_sum(gated_gelu, x, one)[1:]):
        assert grad[1].isnan()
        assert grad[[0, 3]].isfinite().all()


@dtypes
def test_a_nan_gradient_reaches_both_inputs(dtype):
    gate, x = (torch.ones(2, dtype=dtype, requires_grad=True) for _ in range(2))
    gated_gelu(gate, x).backward(torch.tensor([torch.nan, 1.0], dtype=dtype))
    for grad in (gate.grad, x.grad):
        assert grad.isnan().tolist() == [True, False]


def rows_by_definition(before, gates, d):
    """Autograd's, of `gates * gelu(before)` whose output has the gradient `d`."""
    before, gates = (x.to(torch.float64, copy=True).requires_grad_() for x in (before, gates))
    gated = gates[:, None] * functional.gelu(before)
    return [gated.detach(), *torch.autograd.grad((gated * d.double()).sum(), [before, gates])]


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 70),
    width=st.sampled_from([1, 2, 15, 16, 17, 31, 33, 100]),
    dtype=st.sampled_from(DTYPES),
    size=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_gated_rows_have_the_gradients_of_float64(rows, width, dtype, size):
    before, d = (size * torch.randn(2, rows, width)).to(dtype).unbind(0)
    gates = torch.rand(rows)
    gates[::3] = 0  # rows that no choice fills
    exact = rows_by_definition(before, gates, d)
    d_before = d.clone()
    gated, d_gates = gated_rows_backward(before, gates, d_before)
    assert_close(gated, exact[0], dtype, size=size)
    assert_close(d_before, exact[1], dtype, size=5 * size)
    assert_close(d_gates, exact[2], torch.float32, size=10 * width * max(1, size) ** 2)
    assert not gated[::3].any()
    assert not d_before[::3].any()


def test_gated_rows_in_float64_are_those_of_autograd():
    before, d = torch.randn(2, 9, 7, dtype=torch.float64).unbind(0)
    gates = torch.rand(9, dtype=torch.float64)
    exact = rows_by_definition(before, gates, d)
    d_before = d.clone()
    gated, d_gates = gated_rows_backward(before, gates, d_before)
    torch.testing.assert_close([gated, d_before, d_gates], exact)


@dtypes
def test_gates_may_be_of_another_type(dtype):
    before, d = torch.randn(2, 9, 17).to(dtype).unbind(0)
    for other in (torch.bfloat16, torch.float64):
        gates, d_before = torch.rand(9).to(other), d.clone()
        exact = rows_by_definition(before, gates, d)
        gated, d_gates = gated_rows_backward(before, gates, d_before)
        for got, expected in zip((gated, d_before, d_gates), exact, strict=True):
            assert (got.double() - expected).norm() < 0.02 * expected.norm()


@dtypes
def test_a_row_with_a_nan_spoils_no_other(dtype):
    before, d = torch.randn(2, 3, 17).to(dtype).unbind(0)
    before[1, 5] = torch.nan
    gated, d_gates = gated_rows_backward(before, torch.ones(3), d)
    assert d_gates.isnan().tolist() == [False, True, False]
    for made in (gated, d):
        assert made[1].isnan().sum() == 1
        assert made[[0, 2]].isfinite().all()
