"""Whole experts by a kernel of their own against all of them at once, in float64."""

from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glam import kernels
from glam.model.moe.experts import Experts
from glam.model.moe.experts_cpu_kernel import (
    experts_cpu_kernel,
    kernel_supported,
    padded_permutation,
)
from glam.model.moe.experts_grouped_mm import experts_grouped_mm
from glam.model.moe.permutation import permutation
from glam.model.moe.routing import Routing

# Of activations, and of weights.
TYPES = [
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.float32),
    (torch.bfloat16, torch.bfloat16),
]


@pytest.fixture(autouse=True, params=TYPES, ids=str)
def types(request: pytest.FixtureRequest) -> tuple[torch.dtype, torch.dtype]:
    if not kernels.has_gemm(request.param[0]):
        pytest.skip("no products of our own here")
    return request.param


def experts_of(num_experts: int, width: int = 32, hidden: int = 64) -> Experts:
    experts = Experts(num_experts, width, hidden)
    for weight in experts.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return experts


def results(form, lay_out, x, chosen, gates, experts):
    """Outputs and every gradient of an arbitrary function of them."""
    x, gates = x.clone().requires_grad_(), gates.clone().requires_grad_()
    layout = lay_out(chosen, len(experts.w_in_EMH))
    y = form(x, Routing(chosen, gates, gates), experts, layout)
    weight = torch.linspace(-1, 1, y.numel()).bfloat16().to(y.dtype).view_as(y)
    wanted = [x, gates, *experts.parameters()]
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), wanted)]


TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.02}


def whole(x, chosen, gates, experts):
    return results(
        experts_cpu_kernel, partial(padded_permutation, dtype=x.dtype), x, chosen, gates, experts
    )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    tokens=st.one_of(st.integers(1, 150), st.integers(900, 1100)),
    num_experts=st.integers(1, 9),
    top_k=st.integers(1, 3),
    skew=st.floats(0, 5),
    sizes=st.sampled_from([(32, 32), (32, 96), (64, 32), (96, 320), (300, 320), (7, 45)]),
)
def test_outputs_and_gradients_are_close_to_float64_for_any_routing(
    types, tokens, num_experts, top_k, skew, sizes
):
    if types[0] == torch.bfloat16:
        sizes = tuple(32 * max(1, size // 32) for size in sizes)  # what the kernel takes
    logits = torch.randn(tokens, num_experts) + skew * torch.arange(num_experts)
    chosen = logits.topk(min(top_k, num_experts)).indices  # where it is skewed most experts idle
    gates = torch.rand(chosen.shape)
    gates[::3, -1] = 0  # choices not made
    x = torch.randn(tokens, sizes[0]).to(types[0])
    experts = experts_of(num_experts, *sizes).to(types[1])
    assert kernel_supported(x, experts)
    found = whole(x, chosen, gates, experts)
    wide = [x.double(), chosen, gates.double(), experts.double()]
    exact = results(experts_grouped_mm, permutation, *wide)
    for got, expected in zip(found, exact, strict=True):
        assert got.shape == expected.shape
        # A sum of products may cancel, most of all a gate's of one token: then it is as fine as
        # they are.
        bound = TOLERANCE[types[0]] * (expected.norm() + (sizes[0] * sizes[1]) ** 0.5 / 20)
        assert (got.double() - expected).norm() <= bound


def test_an_expert_nobody_chose_has_zero_gradient(types):
    chosen, x = torch.randint(0, 2, (40, 2)) * 3, torch.randn(40, 32).to(types[0])  # 1, 2, 4 idle
    experts = experts_of(5).to(types[1])
    found = whole(x, chosen, torch.rand(40, 2), experts)
    for grad in found[-2:]:
        assert grad.dtype == types[1]
        assert not grad[[1, 2, 4]].any()
        assert grad[[0, 3]].flatten(1).any(1).all()


def test_they_do_not_depend_on_the_threads(types):
    chosen, x = torch.randint(0, 7, (301, 2)), torch.randn(301, 32).to(types[0])
    gates, experts = torch.rand(301, 2), experts_of(7).to(types[1])
    before, made = torch.get_num_threads(), list[list[torch.Tensor]]()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            made.append(whole(x, chosen, gates, experts))
    finally:
        torch.set_num_threads(before)
    for other in made[1:]:
        assert all(torch.equal(*pair) for pair in zip(made[0], other, strict=True))


@pytest.mark.parametrize(("width", "hidden"), [(32, 60), (16, 64)])
def test_in_bfloat16_the_kernel_takes_whole_tiles_only(types, width, hidden):
    x = torch.empty(2, width, dtype=types[0])
    experts = experts_of(3, width, hidden).to(types[1])
    assert kernel_supported(x, experts) == (types[0] == torch.float32)


def test_other_types_are_not_for_the_kernel(types):
    experts = experts_of(3).to(types[1])
    assert kernel_supported(torch.empty(2, 32, dtype=types[0]), experts)
    assert not kernel_supported(torch.empty(2, 32, dtype=torch.float64), experts)
    assert not kernel_supported(torch.empty(2, 32, dtype=torch.float16), experts)
    assert not kernel_supported(torch.empty(2, 32), experts_of(3).bfloat16())
    with kernels.switched_off():
        assert not kernel_supported(torch.empty(2, 32, dtype=types[0]), experts)
