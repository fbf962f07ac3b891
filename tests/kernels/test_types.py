"""Numbers on their way between float32 and bfloat16."""

import pytest
import torch

from glam import kernels

pytestmark = pytest.mark.usefixtures("kernels_here")


def narrowed(wide: torch.Tensor) -> torch.Tensor:
    made = torch.empty(wide.shape, dtype=torch.bfloat16)
    kernels.call("matrices_of_blocks", wide, torch.zeros(1, dtype=torch.int64), made, 1, len(wide))
    return made


def test_narrowing_rounds_as_torch_does():
    torch.manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (50_001,), dtype=torch.int64).to(torch.int32)
    ties = (bits & ~0xFFFF) | 0x8000
    ends = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, 3.4028e38, 1e-45])
    for wide in (bits.view(torch.float32), ties.view(torch.float32), ends):
        wide = wide[~wide.isnan()].contiguous()
        assert torch.equal(narrowed(wide).view(torch.int16), wide.bfloat16().view(torch.int16))


def test_what_arithmetic_makes_of_nothing_stays_no_number():
    made = torch.tensor([torch.inf, 0.0]) * torch.tensor([0.0, torch.inf])
    assert narrowed(torch.cat([made, -made, torch.tensor([torch.nan])])).isnan().all()


@pytest.mark.parametrize("numbers", [1, 17, 33_001])
def test_a_narrow_product_is_added_in_the_wider_type(numbers):
    total, product = torch.randn(numbers), torch.randn(numbers).bfloat16()
    expected = total + product.float()
    kernels.call("add_narrow", total, product, numbers)
    assert torch.equal(total, expected)


@pytest.mark.parametrize("size", [1, 15, 600])
def test_blocks_have_their_experts_matrix_and_add_up_to_its_gradient(size):
    w, expert_of_block = torch.randn(4, size), torch.tensor([0, 0, 2, 2, 2])  # 1 and 3 idle
    each = torch.empty(5, size, dtype=torch.bfloat16)
    kernels.call("matrices_of_blocks", w, expert_of_block, each, 5, size)
    assert torch.equal(each, w.bfloat16()[expert_of_block])
    total = torch.empty(4, size)
    kernels.call("sums_of_blocks", each, torch.tensor([0, 2, 2, 5]), total, 4, 5, size)
    expected = torch.zeros(4, size).index_add_(0, expert_of_block, each.float())
    torch.testing.assert_close(total, expected)
    assert not total[[1, 3]].any()
