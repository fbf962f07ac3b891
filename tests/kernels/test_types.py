"""Numbers on their way between float32 and bfloat16."""

import pytest
import torch

from glam import kernels

pytestmark = pytest.mark.usefixtures("kernels_here")


def sums(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of two narrow numbers each, by the kernel that adds them up in float32."""
    rows, y = torch.stack([a, b]), torch.empty_like(a)
    kernels.call("sum_of_choices", rows, torch.tensor([0, 1]), None, y, 1, 2, len(a), 2)
    return y


def test_narrowing_rounds_as_torch_does():
    torch.manual_seed(0)
    bits = torch.randint(-(2**15), 2**15, (2, 200_001)).to(torch.int16)
    near = (bits[0], bits[0] ^ (bits[1] & 0x07FF))  # sums with few digits more, and ties
    for a, b in (bits, near):
        a, b = a.view(torch.bfloat16), b.view(torch.bfloat16)
        exact = (a.float() + b.float()).bfloat16()
        made = sums(a, b)
        numbers = ~exact.isnan()
        assert torch.equal(made[numbers], exact[numbers])
        assert made[~numbers].isnan().all()


@pytest.mark.parametrize("numbers", [1, 17, 33_001])
def test_a_narrow_product_is_added_in_the_wider_type(numbers):
    total, product = torch.randn(numbers), torch.randn(numbers).bfloat16()
    expected = total + product.float()
    kernels.call("add_narrow", total, product, numbers)
    assert torch.equal(total, expected)
