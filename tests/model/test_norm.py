import pytest
import torch
from torch.nn import functional

from glam.model.norm import EPSILON, RMSNorm


def results(form, x, scale):
    x = x.clone().requires_grad_()
    y = form(x)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return [y, *torch.autograd.grad((y * weight).sum(), [x, scale])]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.01)]
)
@pytest.mark.parametrize("size", [1e-3, 1.0, 100.0])
def test_the_norm_and_its_gradients_are_those_of_torch(dtype, tolerance, size):
    norm = RMSNorm(24).double()
    torch.nn.init.normal_(norm.scale_M)
    x = size * torch.randn(3, 7, 24, dtype=torch.float64)
    exact = results(lambda x: functional.rms_norm(x, (24,), norm.scale_M, EPSILON), x, norm.scale_M)
    if dtype != torch.float64:
        norm.float()
    for got, expected in zip(results(norm, x.to(dtype), norm.scale_M), exact, strict=True):
        assert (got.double() - expected).norm() < tolerance * expected.norm()


def test_a_row_of_zeros_stays_zero():
    norm, x = RMSNorm(8), torch.zeros(1, 2, 8, requires_grad=True)
    norm(x).sum().backward()
    assert not norm(x).any()
    assert x.grad.isfinite().all()
