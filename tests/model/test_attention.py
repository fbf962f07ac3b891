"""Blocks of queries against the definition of attention."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.config import ModelConfig
from glam.model.attention import Attention, document_mask, plain_attention
from glam.model.block_attention import BlockAttention
from glam.model.position import PositionBias


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
    torch.testing.assert_close(layer._on_cpu(x, mask), layer._plainly(x, mask))
