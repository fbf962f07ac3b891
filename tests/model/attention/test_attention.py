"""Blocks of queries against the definition of attention."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.config import ModelConfig
from glam.model.attention.attention import Attention, document_mask, plain_attention
from glam.model.attention.blocks import BlockAttention
from glam.model.attention.position import PositionBias


def results(qkv, position, mask, rows):
    """Outputs and the gradients of qkv and bias; plainly where `rows` is None."""
    qkv = qkv.clone().requires_grad_()
    S, scale = qkv.shape[1], qkv.shape[-1] ** -0.5
    if rows is None:
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = plain_attention(q * scale, k, v, position(S), mask).transpose(1, 2)
    else:
        bucket = position.buckets(min(S, position.max_distance))
        y = BlockAttention.apply(qkv, position.bias_NR, bucket, mask, rows)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return [y, *torch.autograd.grad((y * weight).sum(), [qkv, position.bias_NR])]


def position_of(heads: int, buckets: int = 8, max_distance: int = 20) -> PositionBias:
    position = PositionBias(heads, buckets, max_distance).double()
    torch.nn.init.normal_(position.bias_NR)
    return position


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 70),
    rows=st.integers(1, 40),
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    packed=st.booleans(),
)
def test_blocks_equal_the_definition_for_any_length_and_packing(length, rows, batch, heads, packed):
    qkv = torch.randn(batch, length, 3, heads, 4, dtype=torch.float64)
    segments = torch.randint(0, 4, (batch, length)).sort(1).values
    mask, position = document_mask(segments, torch.float64) if packed else None, position_of(heads)
    torch.testing.assert_close(
        results(qkv, position, mask, min(rows, length)), results(qkv, position, mask, None)
    )


@pytest.mark.parametrize("packed", [True, False])
def test_bfloat16_blocks_stay_close_to_float64(packed):
    qkv, position = torch.randn(2, 300, 3, 2, 16, dtype=torch.float64), position_of(2, 32, 128)
    mask = document_mask(torch.arange(300).expand(2, 300) // 190, torch.float64) if packed else None
    exact = results(qkv, position, mask, None)
    coarse = None if mask is None else mask.bfloat16()
    for got, expected in zip(
        results(qkv.bfloat16(), position.float(), coarse, 64), exact, strict=True
    ):
        assert (got.double() - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("length", [5, 64, 130])
def test_the_layer_computes_the_same_in_both_forms(length):
    config = ModelConfig(d_model=16, num_heads=2, d_head=6)
    layer = Attention(config).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, length, 16, dtype=torch.float64)
    mask = document_mask(torch.arange(length).expand(2, length) // 40, x.dtype)
    torch.testing.assert_close(layer._on_cpu(x, mask), layer._by_operators(x, mask))


DTYPES = [torch.float32, torch.bfloat16]


def assert_close_to_float64(qkv, position, mask, rows, dtype):
    """Of the same numbers, which `qkv` has in the narrow type."""
    exact = results(qkv.double(), position.double(), None if mask is None else mask.double(), None)
    found = results(qkv, position.float(), mask, rows)
    position.double()
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    for got, expected in zip(found, exact, strict=True):
        assert got.shape == expected.shape
        # A gradient may cancel to nothing; then it is as fine as what it was added up from.
        floor = qkv.double().norm() * tolerance
        assert (got.double() - expected).norm() <= tolerance * expected.norm() + floor


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 200),
    rows=st.integers(1, 140),
    heads=st.integers(1, 3),
    max_distance=st.sampled_from([5, 31, 32, 33, 64, 100, 300]),
    packed=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
def test_narrow_blocks_are_close_to_float64_for_any_length_window_and_packing(
    length, rows, heads, max_distance, packed, dtype
):
    qkv, position = (
        torch.randn(2, length, 3, heads, 4).to(dtype),
        position_of(heads, 8, max_distance),
    )
    segments = torch.randint(0, 4, (2, length)).sort(1).values
    mask = document_mask(segments, dtype) if packed else None
    assert_close_to_float64(qkv, position, mask, min(rows, length), dtype)


def test_a_bias_may_be_narrow():
    qkv, position = torch.randn(2, 70, 3, 2, 4).bfloat16(), position_of(2)
    exact = results(qkv.double(), position.bfloat16().double(), None, None)
    for got, expected in zip(results(qkv, position.bfloat16(), None, 32), exact, strict=True):
        assert (got.double() - expected).norm() < 0.03 * expected.norm()


def attended(qkv, mask=None, rows=64):
    position = position_of(qkv.shape[3], 8, 50).float()
    bucket = position.buckets(min(qkv.shape[1], 50))
    return BlockAttention.apply(qkv, position.bias_NR, bucket, mask, rows)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_masked_key_has_no_weight(dtype):
    qkv = torch.randn(1, 150, 3, 2, 4).to(dtype)
    other = qkv.clone()
    other[:, :70] = 1e3 * torch.randn(1, 70, 3, 2, 4)
    mask = document_mask((torch.arange(150) >= 70).long()[None], dtype)
    torch.manual_seed(1)
    one = attended(qkv, mask)[:, 70:]
    torch.manual_seed(1)
    assert torch.equal(one, attended(other, mask)[:, 70:])


@pytest.mark.parametrize("length", [33, 64, 100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_key_ahead_has_no_weight(dtype, length):
    qkv = torch.randn(1, length, 3, 2, 4).to(dtype)
    for query in (0, 1, 30, 31, 32):
        other = qkv.clone()
        other[:, query + 1 :] = 1e3 * torch.randn(1, length - query - 1, 3, 2, 4)
        torch.manual_seed(1)
        one = attended(qkv)[:, : query + 1]
        torch.manual_seed(1)
        assert torch.equal(one, attended(other)[:, : query + 1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_query_has_its_own_value(dtype):
    qkv = torch.randn(2, 5, 3, 2, 4).to(dtype)
    assert torch.equal(attended(qkv, rows=5)[:, 0], qkv[:, 0, 2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_enormous_logits_choose_one_key(dtype):
    """A query that fits one key, by far: it has that key's value."""
    qkv = torch.zeros(1, 40, 3, 1, 4)
    qkv[0, :, 2, 0] = torch.randn(40, 4)
    qkv[0, 7, 1, 0, 0], qkv[0, 20:, 0, 0, 0] = 1e3, 1e3
    qkv = qkv.to(dtype).requires_grad_()
    y = attended(qkv, rows=40)
    assert torch.equal(y[0, 20:, 0], qkv[0, 7, 2, 0].expand(20, 4))
    (grad,) = torch.autograd.grad(y.sum(), qkv)
    assert grad.isfinite().all()
