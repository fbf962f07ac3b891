"""The fused norm against its definition, differentiated by autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.model.norm import EPSILON, RootMeanSquareNorm


def by_definition(x, scale):
    return x / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt() * scale


def results(form, x, scale, dtype=None):
    """`dtype` is that of the weights of the sum that is differentiated."""
    x, scale = x.clone().requires_grad_(), scale.clone().requires_grad_()
    y = form(x, scale)
    weight = torch.linspace(-1, 1, y.numel(), dtype=dtype or y.dtype).view_as(y).to(y.dtype)
    return [y, *torch.autograd.grad((y * weight).sum(), [x, scale])]


@pytest.mark.parametrize("shape", [(2, 3, 8), (5, 1), (1, 1, 64)])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e3])
def test_outputs_and_gradients_are_those_of_the_definition(shape, size):
    x = size * torch.randn(shape, dtype=torch.float64)
    scale = torch.randn(shape[-1], dtype=torch.float64)
    torch.testing.assert_close(
        results(RootMeanSquareNorm.apply, x, scale), results(by_definition, x, scale)
    )


def test_bfloat16_is_normalised_in_float32():
    x, scale = torch.randn(64, 32, dtype=torch.float64).bfloat16(), torch.randn(32)
    exact = results(by_definition, x.double(), scale.double())
    for got, expected in zip(results(RootMeanSquareNorm.apply, x, scale), exact, strict=True):
        assert (got.double() - expected).norm() < 4e-3 * expected.norm()


def test_a_row_of_zeros_stays_zero_with_a_finite_gradient():
    y, d_x, _ = results(RootMeanSquareNorm.apply, torch.zeros(3, 4), torch.ones(4))
    assert not y.any()
    assert d_x.isfinite().all()


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 70),
    width=st.sampled_from([1, 2, 15, 16, 17, 31, 33, 100]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    size=st.sampled_from([1e-4, 1.0, 1e3]),
)
def test_any_number_and_width_of_rows_is_that_of_float64(rows, width, dtype, size):
    x, scale = (size * torch.randn(rows, width)).to(dtype), torch.randn(width)
    found = results(RootMeanSquareNorm.apply, x, scale)
    exact = results(by_definition, x.double(), scale.double(), dtype)
    assert [part.shape for part in found] == [part.shape for part in exact]
    # A gradient of x is a difference: of a row of one number, of nearly the same two.
    inverse = (x.double().square().mean(-1) + EPSILON).rsqrt()
    normal = x.double() * inverse[:, None]  # whose sum is the scale's gradient
    parts = (scale.norm(), scale.norm() * inverse.norm(), normal.norm())
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    for got, expected, part in zip(found, exact, parts, strict=True):
        assert (got.double() - expected).norm() <= tolerance * (expected.norm() + part)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_scale_may_be_narrow(dtype):
    x, scale = torch.randn(9, 33).to(dtype), torch.randn(33).bfloat16()
    exact = by_definition(x.double(), scale.double())
    assert (RootMeanSquareNorm.apply(x, scale).double() - exact).norm() < 8e-3 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_and_gradients_may_have_any_strides(dtype):
    x, scale = torch.randn(9, 2, 33).to(dtype), torch.randn(33)

    def turned(x, scale):
        return RootMeanSquareNorm.apply(x.transpose(0, 1), scale).transpose(0, 1)

    torch.testing.assert_close(
        results(turned, x, scale), results(RootMeanSquareNorm.apply, x, scale)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_with_a_nan_spoils_no_other(dtype):
    x = torch.randn(3, 17).to(dtype)
    x[1, 5] = torch.nan
    y, d_x, d_scale = results(RootMeanSquareNorm.apply, x, torch.ones(17))
    for rows in (y, d_x):
        assert rows.isnan().all(1).tolist() == [False, True, False]
        assert rows[[0, 2]].isfinite().all()
    assert d_scale.isnan().all()
