"""Experts one after another against all of them at once, in float64."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.model.moe.experts import Experts
from glam.model.moe.experts_grouped_mm import experts_grouped_mm, sum_of_choices
from glam.model.moe.experts_loop import experts_loop
from glam.model.moe.permutation import pad_to_few_sizes, permutation
from glam.model.moe.routing import Routing

# In the narrow type the products are torch's: so is what is to be expected of them.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.03}
padded = partial(permutation, padding=pad_to_few_sizes)


def experts_of(num_experts: int, width: int, hidden: int) -> Experts:
    experts = Experts(num_experts, width, hidden)
    for weight in experts.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return experts


def results(form, lay_out, x, chosen, gates, experts):
    """Outputs and every gradient of an arbitrary function of them."""
    x, gates = x.clone().requires_grad_(), gates.clone().requires_grad_()
    y = form(x, Routing(chosen, gates, gates), experts, lay_out(chosen, len(experts.w_in_EMH)))
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    wanted = [x, gates, *experts.parameters()]
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), wanted)]


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 80),
    num_experts=st.integers(1, 9),
    top_k=st.integers(1, 3),
    skew=st.floats(0, 5),
    sizes=st.sampled_from([(1, 1), (8, 12), (7, 33), (31, 5)]),
    dtype=st.sampled_from(list(TOLERANCE)),
)
def test_the_loop_equals_grouped_products_for_any_routing(
    tokens, num_experts, top_k, skew, sizes, dtype
):
    logits = torch.randn(tokens, num_experts) + skew * torch.arange(num_experts)
    chosen = logits.topk(min(top_k, num_experts)).indices  # where it is skewed most experts idle
    gates = torch.rand(chosen.shape)
    gates[::3, -1] = 0  # choices not made
    x, experts = torch.randn(tokens, sizes[0]).to(dtype), experts_of(num_experts, *sizes)
    wide = [x.double(), chosen, gates.double(), experts.double()]
    exact = results(experts_grouped_mm, permutation, *wide)
    own = torch.float64 if dtype == torch.float64 else torch.float32
    for lay_out in (permutation, padded):
        found = results(experts_loop, lay_out, x, chosen, gates.to(own), experts.to(own))
        assert [part.shape for part in found] == [part.shape for part in exact]
        assert [part.dtype for part in found] == [dtype, dtype, own, own, own]
        for got, expected in zip(found, exact, strict=True):
            # The sum of a few products may cancel: then it is as fine as they are.
            bound = TOLERANCE[dtype] * (expected.norm() + got.numel() ** 0.5 + 1)
            assert (got.double() - expected).norm() <= bound


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_an_expert_nobody_chose_has_zero_gradient(dtype):
    experts = experts_of(5, 8, 12).to(torch.float64 if dtype == torch.float64 else torch.float32)
    chosen = torch.randint(0, 2, (40, 2)) * 3  # 1, 2 and 4 idle
    x = torch.randn(40, 8).to(dtype)
    gates = torch.rand(40, 2).to(experts.w_in_EMH)
    *_, d_in, d_out = results(experts_loop, padded, x, chosen, gates, experts)
    for grad in (d_in, d_out):
        assert not grad[[1, 2, 4]].any()
        assert grad[[0, 3]].flatten(1).any(1).all()


def test_padding_rows_change_nothing():
    """Their numbers are whatever the memory held."""
    x, chosen, gates = (
        torch.randn(20, 8).bfloat16(),
        torch.randint(0, 3, (20, 2)),
        torch.rand(20, 2),
    )
    torch.use_deterministic_algorithms(True)  # new memory is then no number
    try:
        found = results(experts_loop, padded, x, chosen, gates, experts_of(4, 8, 12))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(part.isfinite().all() for part in found)


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(1, 40),
    top_k=st.integers(1, 4),
    width=st.sampled_from([1, 15, 16, 33, 100]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    gated=st.booleans(),
)
def test_a_sum_of_choices_is_that_of_float64(tokens, top_k, width, dtype, gated):
    rows, where = torch.randn(50, width).to(dtype), torch.randint(0, 50, (tokens, top_k))
    gates = torch.rand(tokens, top_k) if gated else None
    weight = torch.ones(tokens, top_k) if gates is None else gates
    exact = (rows.double()[where] * weight.double()[:, :, None]).sum(1)
    found = sum_of_choices(rows, where, gates)
    assert found.dtype == dtype
    rtol = 1e-6 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(found.double(), exact, rtol=rtol, atol=2e-6)
