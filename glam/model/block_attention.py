"""Attention on a CPU: causal, with a trainable bias, one block of queries at a time.

Keys ahead of a block are never multiplied. The bias is taken relative to its last bucket, which
a softmax does not see: so it is zero beyond the maximum distance, and keys that far need none. A
row of logit gradients sums to zero, so the last bucket's gradient is minus the sum of the others.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from glam.model.position import PositionBias

aten = torch.ops.aten


class Block(NamedTuple):
    """Queries `start` to `stop`; they meet keys 0 to `stop`, of which `near` have a bias."""

    start: int
    stop: int
    near: int

    @property
    def queries(self) -> slice:
        return slice(self.start, self.stop)


def blocks(length: int, rows: int, width: int) -> Iterator[Block]:
    """From the last to the first, which alone may be shorter."""
    for stop in range(length, 0, -rows):
        yield Block(max(0, stop - rows), stop, min(stop, width))


def windows(bias_NW: Tensor, rows: int) -> Tensor:
    """[N, rows, W]: the bias of the last `rows` queries of W positions, -inf where a key is ahead.
    `bias_NW` gives it by distance."""
    ahead = bias_NW.new_full((len(bias_NW), rows - 1), -torch.inf)
    by_offset = torch.cat([bias_NW.flip(1), ahead], 1)
    return by_offset.unfold(1, bias_NW.shape[1], 1).flip(1)


def by_distance(grad_NRW: Tensor) -> Tensor:
    """[N, W]: the sum over the pairs of each distance; the transpose of `windows`."""
    N, R, W = grad_NRW.shape
    sums = aten.unfold_backward(grad_NRW.flip(1), [N, W + R - 1], 1, W, 1)
    return sums[:, :W].flip(1)


class BlockAttention(torch.autograd.Function):
    """`(qkv [B, S, 3, N, D], bias [N, R], bucket of each distance, mask, rows) -> [B, S, N, D]`."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, bias_NR: Tensor, bucket_W: Tensor, mask: Tensor | None, rows: int
    ) -> Tensor:
        B, S, _, N, D = qkv.shape
        q, k, v = qkv.permute(2, 0, 3, 1, 4).reshape(3, B * N, S, D).unbind(0)
        q = q * D**-0.5
        relative_NW = (bias_NR - bias_NR[:, -1:])[:, bucket_W]
        bias = windows(relative_NW, rows).to(qkv.dtype)
        y, kept = torch.empty_like(q), list[Tensor]()
        for block in blocks(S, rows, len(bucket_W)):
            logits = _mask_and_bias(block, bias, mask, B)
            logits.baddbmm_(q[:, block.queries], k[:, : block.stop].transpose(1, 2))
            weights = torch.softmax(logits, -1)
            y[:, block.queries] = torch.bmm(weights, v[:, : block.stop])
            kept.append(weights)
        ctx.save_for_backward(q, k, v, bias_NR, bucket_W, *kept)
        ctx.shape, ctx.rows = (B, S, N, D), rows
        return y.view(B, N, S, D).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias_NR, bucket_W, *kept = ctx.saved_tensors
        B, S, N, D = ctx.shape
        W = len(bucket_W)
        dy = grads[0].transpose(1, 2).reshape(B * N, S, D)
        d_qkv = q.new_empty(3, B * N, S, D)
        dq, dk, dv = d_qkv.unbind(0)
        d_bias = bias_NR.new_zeros(N, ctx.rows, W)
        for block, weights in zip(blocks(S, ctx.rows, W), kept, strict=True):
            here, past = block.queries, slice(0, block.stop)
            d_weights = torch.bmm(dy[:, here], v[:, past].transpose(1, 2))
            d_logits = aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            near = d_logits.view(B, N, -1, block.stop)[..., block.stop - block.near :]
            rows = block.stop - block.start
            d_bias[:, ctx.rows - rows :, W - block.near :] += near.sum(0)
            torch.mul(torch.bmm(d_logits, k[:, past]), D**-0.5, out=dq[:, here])
            # Blocks come from the last to the first: the last one meets every key.
            add = Tensor.add_ if block.stop < S else Tensor.copy_
            add(dk[:, past], torch.bmm(d_logits.transpose(1, 2), q[:, here]))
            add(dv[:, past], torch.bmm(weights.transpose(1, 2), dy[:, here]))
        d_bias_NR = torch.zeros_like(bias_NR).index_add_(1, bucket_W, by_distance(d_bias))
        d_bias_NR[:, -1] -= d_bias_NR.sum(1)
        return d_qkv.view(3, B, N, S, D).permute(1, 3, 0, 2, 4), d_bias_NR, None, None, None


def _mask_and_bias(block: Block, bias: Tensor, mask: Tensor | None, batch: int) -> Tensor:
    """What is added to the logits of a block: [B * N, queries, keys]."""
    N, R, W = bias.shape
    rows = block.stop - block.start
    far = block.stop - block.near
    near = bias[:, R - rows :, W - block.near :]
    added = bias.new_empty(batch, N, rows, block.stop)
    if mask is None:
        added[..., :far] = 0
        added[..., far:] = near
    else:
        shared = mask[:, None, block.queries, : block.stop]
        added[..., :far] = shared[..., :far]
        torch.add(shared[..., far:], near, out=added[..., far:])
    return added.view(batch * N, rows, block.stop)


def rows_of_a_block(length: int, dtype: torch.dtype) -> int:
    """Of queries, the fastest of those that were tried."""
    wide = length <= 128 or (length >= 512 and dtype == torch.bfloat16)
    return min(length, 128 if wide else 64)


def block_attention(
    qkv: Float[Tensor, "B S 3 N D"], position: PositionBias, mask_BSS: Float[Tensor, "B S S"] | None
) -> Float[Tensor, "B S N D"]:
    """What `plain_attention` computes, of any length."""
    S = qkv.shape[1]
    rows = rows_of_a_block(S, qkv.dtype)
    bucket_W = position.buckets(min(S, rows + position.max_distance))
    y = BlockAttention.apply(qkv, position.bias_NR, bucket_W, mask_BSS, rows)  # pyright: ignore
    return cast(Tensor, y)
