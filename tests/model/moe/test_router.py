"""Routing in one pass against `routes` in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.model.moe.router import RouteKernel, route

pytestmark = pytest.mark.usefixtures("kernels_here")


def results(form, logits, top_k, normalize):
    """Experts, gates, probabilities; and gradients that come by both, by one and by the other."""
    logits = logits.clone().requires_grad_()
    experts, gates, probabilities = form(logits, top_k, normalize)
    assert not experts.requires_grad
    by_gates = (gates * torch.linspace(-1, 2, gates.numel()).view_as(gates)).sum()
    by_all = (probabilities * torch.linspace(2, -1, logits.numel()).view_as(logits)).sum()
    losses = (by_gates + by_all, by_gates, by_all)
    grads = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in losses]
    return experts, [gates.detach(), probabilities.detach(), *grads]


def assert_as_in_float64(logits, top_k, normalize):
    experts, found = results(RouteKernel.apply, logits, top_k, normalize)
    exact_experts, exact = results(route, logits.double(), top_k, normalize)
    assert torch.equal(experts, exact_experts)
    for got, expected in zip(found, exact, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), expected, rtol=3e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.sampled_from([1, 2, 15, 33, 100]),
    num_experts=st.sampled_from([1, 2, 3, 4, 7, 16, 33, 64]),
    top_k=st.integers(1, 3),
    normalize=st.booleans(),
    size=st.sampled_from([1e-2, 1.0, 30.0]),
)
def test_choices_gates_and_gradients_are_those_of_float64(
    tokens, num_experts, top_k, normalize, size
):
    logits = size * torch.randn(tokens, num_experts)
    assert_as_in_float64(logits, min(top_k, num_experts), normalize)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_the_first_of_equals_is_chosen(top_k, normalize):
    logits = torch.tensor([[1.0, 1, 1, 1], [0, 2, 1, 2], [0, 3, 3, 3], [2, 1, 1, 1]])
    experts, gates, _ = RouteKernel.apply(logits, top_k, normalize)
    expected = torch.tensor([[0, 1, 2], [1, 3, 2], [1, 2, 3], [0, 1, 2]])[:, :top_k]
    assert torch.equal(experts, expected)
    if normalize:
        torch.testing.assert_close(gates[0], torch.full((top_k,), 1 / top_k))
    assert_as_in_float64(logits, top_k, normalize)


@pytest.mark.parametrize("num_experts", [9, 16, 40])
def test_few_values_have_many_ties_and_no_expert_twice(num_experts):
    logits = torch.randint(0, 3, (500, num_experts)).float()
    experts, _, _ = RouteKernel.apply(logits, 3, True)
    assert torch.equal(experts, route(logits, 3, True)[0])
    assert all(len(set(chosen)) == 3 for chosen in experts.tolist())


@pytest.mark.parametrize("normalize", [True, False])
def test_enormous_logits_give_all_to_one_expert(normalize):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4]])
    assert_as_in_float64(logits, 2, normalize)


def test_a_choice_of_all_experts_has_their_probabilities_for_gates():
    logits = torch.randn(20, 3)
    experts, gates, probabilities = RouteKernel.apply(logits, 3, True)
    torch.testing.assert_close(gates, probabilities.gather(1, experts))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("num_experts", [5, 16, 21])
@pytest.mark.parametrize("spoilt", [slice(2, 3), slice(0, None)])
def test_a_nan_logit_spoils_its_token_alone(spoilt, num_experts, normalize):
    logits = torch.randn(3, num_experts)
    logits[1, spoilt] = torch.nan
    experts, gates, probabilities = RouteKernel.apply(logits, 2, normalize)
    assert probabilities.isnan().all(1).tolist() == [False, True, False]
    assert gates.isnan().any(1).tolist() == [False, True, False]
    assert len(set(experts[1].tolist())) == 2
    assert ((experts >= 0) & (experts < num_experts)).all()


def test_logits_may_have_any_strides():
    logits = torch.randn(4, 9)
    found = RouteKernel.apply(logits.t(), 2, True)
    torch.testing.assert_close(found, RouteKernel.apply(logits.t().contiguous(), 2, True))
