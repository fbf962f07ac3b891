"""Padded rows against unpadded rows, which test_moe.py holds to the definition."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.model.moe.experts import Experts
from glam.model.moe.experts_grouped_mm import experts_grouped_mm
from glam.model.moe.permutation import no_padding, pad_to_few_sizes, permutation, row_padding
from glam.model.moe.routing import Routing


def experts_of(num_experts: int) -> Experts:
    experts = Experts(num_experts, 8, 12).double()
    for weight in experts.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return experts


padded = partial(permutation, padding=pad_to_few_sizes)


def results(lay_out, x, chosen, gates, experts):
    """Outputs and every gradient of an arbitrary function of them."""
    x, gates = x.clone().requires_grad_(), gates.clone().requires_grad_()
    layout = lay_out(chosen, len(experts.w_in_EMH))
    y = experts_grouped_mm(x, Routing(chosen, gates, gates), experts, layout)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    wanted = [x, gates, *experts.parameters()]
    return [y, *torch.autograd.grad((y * weight).sum(), wanted)]


@settings(max_examples=30, deadline=None)
@given(
    tokens=st.integers(1, 300),
    num_experts=st.integers(2, 9),
    top_k=st.integers(1, 3),
    skew=st.floats(0, 5),
)
def test_padded_rows_equal_unpadded_rows_for_any_routing(tokens, num_experts, top_k, skew):
    top_k = min(top_k, num_experts)
    logits = torch.randn(tokens, num_experts) + skew * torch.arange(num_experts)
    chosen = logits.topk(top_k).indices
    gates = torch.rand(tokens, top_k, dtype=torch.float64)
    gates[::3, top_k - 1] = 0  # choices not made
    x, experts = torch.randn(tokens, 8, dtype=torch.float64), experts_of(num_experts)
    expected = results(permutation, x, chosen, gates, experts)
    torch.testing.assert_close(results(padded, x, chosen, gates, experts), expected)


def test_in_bfloat16_every_layout_is_close_to_float64():
    chosen, gates = torch.randint(0, 4, (200, 2)), torch.rand(200, 2, dtype=torch.float64)
    x, experts = torch.randn(200, 8, dtype=torch.float64), experts_of(4)
    exact = results(permutation, x, chosen, gates, experts)
    x, experts, gates = x.bfloat16(), experts.float(), gates.float()
    for lay_out in (permutation, padded):
        for got, expected in zip(results(lay_out, x, chosen, gates, experts), exact, strict=True):
            assert (got.double() - expected).norm() < 0.01 * expected.norm()


def test_experts_share_few_row_counts_in_bfloat16_on_a_cpu():
    assert row_padding(torch.empty(2, 8, dtype=torch.bfloat16)) is pad_to_few_sizes
    assert row_padding(torch.empty(2, 8)) is no_padding
    assert row_padding(torch.empty(2, 8, device="meta").bfloat16()) is no_padding
    counts = torch.arange(4097)
    filled = pad_to_few_sizes(counts)
    assert len(filled.unique()) == 1 + 16 + 4 * 16  # none, up to 256, and of four octaves
    assert (counts <= filled).all()
    assert (filled - counts < torch.clamp(counts / 16, min=16)).all()


def test_a_padding_row_belongs_to_no_choice():
    chosen = torch.randint(0, 5, (400, 2))
    where, bare = padded(chosen, 6), permutation(chosen, 6)
    assert torch.equal(where.counts, pad_to_few_sizes(bare.counts))
    assert where.counts[5] == 0
    assert len(where.token_of_row) == pad_to_few_sizes(where.counts.sum())
    assert torch.equal(where.token_of_row[where.row_of_choice], torch.arange(800) // 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loop_equals_grouped_mm(dtype, monkeypatch):
    """The loop is what torch before 2.10 runs."""
    functional = torch.nn.functional
    if not hasattr(functional, "grouped_mm"):
        pytest.skip("this torch has none")
    chosen, gates = torch.randint(0, 3, (50, 2)), torch.rand(50, 2)  # the fourth expert idles
    x, experts = torch.randn(50, 8, dtype=dtype), Experts(4, 8, 16)
    for weight in experts.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    grouped = results(permutation, x, chosen, gates, experts)
    monkeypatch.delattr(functional, "grouped_mm")
    loop = results(permutation, x, chosen, gates, experts)
    tolerance = {"rtol": 0.03, "atol": 0.1} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(grouped, loop, **tolerance)
