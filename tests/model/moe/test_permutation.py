"""Choices placed one by one against choices sorted."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glam import kernels
from glam.model.moe.permutation import no_padding, pad_to_few_sizes, permutation


def choices(tokens: int, num_experts: int, top_k: int, skew: float) -> torch.Tensor:
    logits = torch.randn(tokens, num_experts) + skew * torch.arange(num_experts)
    return logits.topk(min(top_k, num_experts)).indices


routings = given(
    tokens=st.integers(1, 300),
    num_experts=st.integers(1, 33),
    top_k=st.integers(1, 3),
    skew=st.floats(0, 5),
)


@settings(max_examples=40, deadline=None)
@routings
def test_the_kernel_sorts_as_a_stable_sort(tokens, num_experts, top_k, skew):
    chosen = choices(tokens, num_experts, top_k, skew)
    for fill in (no_padding, pad_to_few_sizes):
        placed = permutation(chosen, num_experts, fill)
        with kernels.switched_off():
            by_sorting = permutation(chosen, num_experts, fill)
        assert all(torch.equal(*pair) for pair in zip(placed, by_sorting, strict=True))


@settings(max_examples=20, deadline=None)
@routings
def test_an_experts_choices_lie_together_in_the_order_of_their_tokens(
    tokens, num_experts, top_k, skew
):
    chosen = choices(tokens, num_experts, top_k, skew)
    where = permutation(chosen, num_experts)
    order = chosen.flatten().argsort(stable=True)
    assert torch.equal(where.row_of_choice[order], torch.arange(chosen.numel()))
    assert torch.equal(where.token_of_row, order // chosen.shape[1])
    assert torch.equal(where.counts, torch.bincount(chosen.flatten(), minlength=num_experts))


def test_choices_may_have_any_strides():
    chosen = torch.randint(0, 5, (2, 40))
    one, other = permutation(chosen.t(), 5), permutation(chosen.t().contiguous(), 5)
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
