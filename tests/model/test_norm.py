"""The fused norm against its definition, differentiated by autograd."""

import pytest
import torch

from glam.model.norm import EPSILON, RootMeanSquareNorm


def by_definition(x, scale):
    return x / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt() * scale


def results(form, x, scale):
    x, scale = x.clone().requires_grad_(), scale.clone().requires_grad_()
    y = form(x, scale)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
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
