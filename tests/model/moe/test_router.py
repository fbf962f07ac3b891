"""Routing in one pass against `routes` in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.model.moe.balance import towards_even
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


def chosen_one_by_one(logits, bias, top_k):
    """By the definition (Wang et al. 2024, equation 3), in the order of the gates."""
    experts = []
    for row in logits.tolist():
        sums = [logit + b for logit, b in zip(row, bias.tolist(), strict=True)]
        best = sorted(range(len(row)), key=lambda e: (-sums[e], e))[:top_k]
        experts.append(sorted(best, key=lambda e: -row[e]))
    return experts


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.sampled_from([1, 2, 33]),
    num_experts=st.sampled_from([1, 2, 5, 16, 33, 64]),
    top_k=st.integers(1, 4),
    normalize=st.booleans(),
    size=st.sampled_from([0.0, 1.0, 40.0]),
)
def test_a_bias_decides_who_is_chosen_and_not_with_what_gate(
    tokens, num_experts, top_k, normalize, size
):
    """In steps of an eighth, so that sums are exact, and many are equal."""
    logits = (8 * torch.randn(tokens, num_experts)).round() / 8
    bias = (8 * size * torch.randn(num_experts)).round() / 8
    top_k = min(top_k, num_experts)
    for form, precise in ((route, logits.double()), (RouteKernel.apply, logits)):
        experts, gates, probabilities = form(precise, top_k, normalize, bias.to(precise.dtype))
        assert experts.tolist() == chosen_one_by_one(logits, bias, top_k)
        of_chosen = logits.double().softmax(-1).gather(-1, experts)
        if normalize:
            of_chosen = logits.double().gather(-1, experts).softmax(-1)
        torch.testing.assert_close(gates.double(), of_chosen, rtol=3e-6, atol=1e-6)
        torch.testing.assert_close(
            probabilities.double(), logits.double().softmax(-1), rtol=3e-6, atol=1e-6
        )


@pytest.mark.parametrize("normalize", [True, False])
def test_the_kernel_has_the_gradients_of_biased_choices_too(normalize):
    logits, bias = torch.randn(50, 9), 3 * torch.randn(9)
    biased = [
        lambda *given: RouteKernel.apply(*given, bias),
        lambda *given: route(*given, bias.double()),
    ]
    experts, found = results(biased[0], logits, 3, normalize)
    exact_experts, exact = results(biased[1], logits.double(), 3, normalize)
    assert torch.equal(experts, exact_experts)
    for got, expected in zip(found, exact, strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=3e-6, atol=1e-6)


def test_a_bias_of_zeros_changes_no_bit():
    logits = torch.randn(500, 12)
    for form in (route, RouteKernel.apply):
        found, biased = form(logits, 2, True), form(logits, 2, True, torch.zeros(12))
        for one, other in zip(found, biased, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


def test_a_chosen_expert_far_below_the_best_keeps_its_gate():
    """Logits so far below the best one, which is not chosen, that their probabilities vanish."""
    logits, bias = torch.tensor([[0.0, 1.0, 200.0]]), torch.tensor([0.0, 0.0, -1e3])
    for form in (route, RouteKernel.apply):
        experts, gates, _ = form(logits, 2, True, bias)
        assert experts.tolist() == [[1, 0]]
        torch.testing.assert_close(gates, torch.tensor([[1.0, 0.0]]).softmax(-1))


@pytest.mark.parametrize("num_experts", [2, 6, 7, 64])
def test_biases_go_towards_even_loads_by_one_sign_each(num_experts):
    choices = torch.randint(0, num_experts, (3, 1000))
    counts = torch.stack([row.bincount(minlength=num_experts) for row in choices])
    counts[0, :] = 5  # even
    signs = [
        [(n * num_experts < sum(row)) - (n * num_experts > sum(row)) for n in row]
        for row in counts.tolist()
    ]
    load = counts.float() / counts.sum(-1, keepdim=True)
    assert towards_even(load).tolist() == signs


def test_rounding_moves_no_bias_of_an_even_load():
    """Shares of three processes, whose sum is one ulp off."""
    parts = torch.tensor([[3.0, 5, 1], [5, 3, 8], [4, 4, 3]]) / torch.tensor([[9.0], [16], [11]])
    even = torch.full((3,), 1 / 3) * torch.tensor([1 - 1e-7, 1 + 1e-7, 1.0])
    assert not towards_even(even).any()
    assert towards_even(parts.mean(0)).any()
