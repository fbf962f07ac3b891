"""Fused attention against its definition. torch compiles no backward pass for a CPU and refuses one
there, so that here its own definition of the operator is differentiated, behind that refusal."""

import pytest
import torch
from torch.nn.attention import flex_attention as torch_flex

from glam.model.attention.attention import document_mask, plain_attention
from glam.model.attention.flex import document_blocks, flex_bias_attention
from glam.model.attention.position import PositionBias

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@pytest.fixture(autouse=True)
def differentiable(monkeypatch):
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *tensors: None)


def drawn(length, heads=2, buckets=32, max_distance=128):
    q, k, v = (torch.randn(2, heads, length, 16, requires_grad=True) for _ in range(3))
    position = PositionBias(heads, buckets, max_distance)
    torch.nn.init.normal_(position.bias_NR)
    segments = (torch.arange(length) // 60).repeat(2, 1)
    segments[1] = torch.arange(length) // 7  # short documents, and many
    return (q, k, v), position, segments


@pytest.mark.parametrize(
    ("length", "buckets", "max_distance"),
    [(1, 32, 128), (100, 32, 128), (128, 32, 128), (300, 32, 128), (90, 4, 6), (64, 8, 64)],
)
def test_outputs_and_gradients_are_those_of_the_definition(length, buckets, max_distance):
    qkv, position, segments = drawn(length, buckets=buckets, max_distance=max_distance)
    inputs, d_y = (*qkv, position.bias_NR), torch.randn(2, 2, length, 16)
    q, k, v = qkv
    mask = document_mask(segments, torch.float32)
    expected = plain_attention(q * 16**-0.5, k, v, position(length), mask)
    found = flex_bias_attention(*qkv, position, document_blocks(segments))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(
        torch.autograd.grad((found * d_y).sum(), inputs),
        torch.autograd.grad((expected * d_y).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_a_key_far_above_those_a_query_sees_spoils_no_gradient():
    """Its exponential is infinite: it has to go before it meets a zero."""
    qkv, position, segments = drawn(40)
    with torch.no_grad():
        qkv[1][:, :, -1] *= 1e4
    y = flex_bias_attention(*qkv, position, document_blocks(segments))
    (d_bias,) = torch.autograd.grad(y[:, :, :-1].sum(), [position.bias_NR])
    assert d_bias.isfinite().all()


def test_blocks_that_hold_no_pair_are_left_out():
    one, four = torch.zeros(1, 512).long(), torch.arange(512)[None] // 128
    assert document_blocks(one).blocks.sparsity() == pytest.approx(100 * 6 / 16)
    assert document_blocks(four).blocks.sparsity() == pytest.approx(100 * 12 / 16)


@pytest.mark.usefixtures("torch_of_gpus")
def test_without_gradients_torch_computes_it_on_this_cpu(monkeypatch):
    monkeypatch.undo()
    qkv, position, segments = drawn(100)
    with torch.no_grad():
        q, k, v = (x.detach() for x in qkv)
        mask = document_mask(segments, torch.float32)
        expected = plain_attention(q * 16**-0.5, k, v, position(100), mask)
        found = flex_bias_attention(q, k, v, position, document_blocks(segments))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(NotImplementedError, match="backward on CPU"):
        flex_bias_attention(*qkv, position, document_blocks(segments))
