"""Experts in FP8 against the same experts in float32: what a GPU multiplies is emulated here by
rounding to float8 and multiplying in float32."""

import pytest
import torch

from glam.model.moe.experts import Experts
from glam.model.moe.experts_float8 import FLOAT8, LARGEST, grouped_float8, product, scaled
from glam.model.moe.grouped import grouped_static
from glam.model.moe.permutation import static_permutation
from glam.model.moe.routing import Routing


def drawn(dtype=torch.float32, tokens=40):
    experts = Experts(4, 32, 64)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, std=parameter.shape[-2] ** -0.5)
    x = torch.randn(2, tokens // 2, 32).to(dtype).requires_grad_()
    logits = torch.randn(tokens, 4)
    gates, chosen = logits.softmax(-1).topk(2)
    return x, Routing(chosen, gates.detach().requires_grad_(), logits.softmax(-1)), experts


def results(form, x, routing, experts):
    y = form(x, routing, experts).y
    inputs = [x, routing.gates, *experts.parameters()]
    torch.manual_seed(0)
    return [y, *torch.autograd.grad(y, inputs, torch.randn_like(y))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_and_gradients_are_those_of_exact_products_to_the_rounding_of_fp8(dtype):
    inputs = drawn(dtype)
    exact = results(grouped_static, *inputs)
    for mine, theirs in zip(results(grouped_float8, *inputs), exact, strict=True):
        off = (mine - theirs).norm() / theirs.norm()
        assert 0.002 < off < 0.08  # e4m3 has 3 bits: 3 % a number at most


def test_numbers_that_fp8_has_multiply_exactly():
    rows, w = torch.randint(-8, 9, (20, 32)).float(), torch.randint(-8, 9, (4, 16, 32)).float()
    rows[:, 0], w[:, :, 0] = 7 * 2.0**6, 7 * 2.0**6  # so that every scale is 1
    layout = static_permutation(torch.arange(20)[:, None] // 5, 4)
    found = product(scaled(rows), scaled(w), layout, torch.float32)
    wanted = torch.cat([rows[5 * e : 5 * e + 5] @ w[e].T for e in range(4)])
    assert LARGEST == 7 * 2.0**6
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_every_row_has_its_own_scale_and_a_row_of_zeros_stays_zero():
    x = torch.randn(3, 8) * torch.tensor([[1e-6], [1.0], [1e6]])
    x[1] = 0
    found = scaled(x)
    assert found.values.dtype == FLOAT8
    assert found.values.float().abs().amax(-1).tolist() == [LARGEST, 0, LARGEST]
    back = found.values.float() * found.scale[:, None]
    torch.testing.assert_close(back, x, rtol=0.07, atol=0)


@pytest.mark.usefixtures("torch_of_gpus")
def test_torch_takes_the_layouts_of_the_factors_on_a_gpu():
    """By its checks of shapes, types and strides, which the meta device makes too."""
    x, routing, experts = drawn(torch.bfloat16)
    there = [each.detach().to("meta").requires_grad_() for each in (x, routing.gates)]
    routing = Routing(routing.experts.to("meta"), there[1], routing.probabilities.to("meta"))
    y = grouped_float8(there[0], routing, experts.to("meta")).y
    inputs = [*there, *experts.parameters()]
    found = torch.autograd.grad(y, inputs, torch.empty_like(y))
    assert [each.shape for each in found] == [each.shape for each in inputs]
