"""Whole experts by a kernel of their own against all of them at once, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glam import kernels
from glam.model.experts import Experts
from glam.model.fused_experts import fused_experts
from glam.model.routing import Routing
from glam.model.sorted_layout import sorted_layout
from glam.model.whole_experts import layout_of_steps, suits, whole_experts


@pytest.fixture(autouse=True)
def multiplies():
    if not kernels.multiplies(torch.bfloat16):
        pytest.skip("no products of our own here")


def experts_of(num_experts: int, width: int = 32, hidden: int = 64) -> Experts:
    experts = Experts(num_experts, width, hidden)
    for weight in experts.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return experts


def results(form, lay_out, x, chosen, gates, experts):
    """Outputs and every gradient of an arbitrary function of them."""
    x, gates = x.clone().requires_grad_(), gates.clone().requires_grad_()
    y = form(x, Routing(chosen, gates, gates), experts, lay_out(chosen, len(experts.w_in_EMH)))
    weight = torch.linspace(-1, 1, y.numel()).bfloat16().to(y.dtype).view_as(y)
    wanted = [x, gates, *experts.parameters()]
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), wanted)]


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(1, 150),
    num_experts=st.integers(1, 9),
    top_k=st.integers(1, 3),
    skew=st.floats(0, 5),
    sizes=st.sampled_from([(32, 32), (32, 96), (64, 32), (96, 160)]),
    weights=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_outputs_and_gradients_are_close_to_float64_for_any_routing(
    tokens, num_experts, top_k, skew, sizes, weights
):
    logits = torch.randn(tokens, num_experts) + skew * torch.arange(num_experts)
    chosen = logits.topk(min(top_k, num_experts)).indices  # where it is skewed most experts idle
    gates = torch.rand(chosen.shape)
    gates[::3, -1] = 0  # choices not made
    x = torch.randn(tokens, sizes[0]).bfloat16()
    experts = experts_of(num_experts, *sizes).to(weights)
    assert suits(x, experts)
    found = results(whole_experts, layout_of_steps, x, chosen, gates, experts)
    wide = [x.double(), chosen, gates.double(), experts.double()]
    exact = results(fused_experts, sorted_layout, *wide)
    for got, expected in zip(found, exact, strict=True):
        assert got.shape == expected.shape
        # The sum of a few products may cancel: then it is as fine as they are.
        bound = 0.02 * expected.norm() + 0.05
        assert (got.double() - expected).norm() <= bound


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_an_expert_nobody_chose_has_zero_gradient(weights):
    chosen, x = torch.randint(0, 2, (40, 2)) * 3, torch.randn(40, 32).bfloat16()  # 1, 2, 4 idle
    experts = experts_of(5).to(weights)
    found = results(whole_experts, layout_of_steps, x, chosen, torch.rand(40, 2), experts)
    for grad in found[-2:]:
        assert grad.dtype == weights
        assert not grad[[1, 2, 4]].any()
        assert grad[[0, 3]].flatten(1).any(1).all()


def test_they_do_not_depend_on_the_threads():
    chosen, x = torch.randint(0, 7, (301, 2)), torch.randn(301, 32).bfloat16()
    gates, experts = torch.rand(301, 2), experts_of(7)
    before, made = torch.get_num_threads(), list[list[torch.Tensor]]()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            made.append(results(whole_experts, layout_of_steps, x, chosen, gates, experts))
    finally:
        torch.set_num_threads(before)
    for other in made[1:]:
        assert all(torch.equal(*pair) for pair in zip(made[0], other, strict=True))


@pytest.mark.parametrize(
    ("dtype", "width", "hidden"),
    [(torch.float32, 32, 64), (torch.bfloat16, 32, 60), (torch.bfloat16, 16, 64)],
)  # fmt: skip
def test_other_types_and_sizes_are_not_for_the_kernel(dtype, width, hidden):
    assert not suits(torch.empty(2, width, dtype=dtype), experts_of(3, width, hidden))
