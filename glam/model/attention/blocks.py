"""Attention on a CPU: causal, with a trainable bias, one block of queries at a time.

Keys ahead of a block are never multiplied. The bias is taken relative to its last bucket, which
a softmax does not see: so it is zero beyond the maximum distance, and keys that far need none. A
row of logit gradients sums to zero, so the last bucket's gradient is minus the sum of the others.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from glam.model.attention.biased_softmax import BiasedSoftmax, Block, biased_softmax
from glam.model.attention.position import PositionBias


def blocks(length: int, rows: int) -> Iterator[Block]:
    """From the last to the first, which alone may be shorter."""
    return (Block(max(0, stop - rows), stop) for stop in range(length, 0, -rows))


class BlockAttention(torch.autograd.Function):
    """`(qkv [B, S, 3, N, D], bias [N, R], bucket of each distance up to the last bucket's, mask,
    rows of a block) -> [B, S, N, D]`"""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, bias_NR: Tensor, bucket_W: Tensor, mask: Tensor | None, rows: int
    ) -> Tensor:
        B, S, _, N, D = qkv.shape
        q, k, v = qkv.permute(2, 0, 3, 1, 4).reshape(3, B * N, S, D).unbind(0)
        relative_NW = (bias_NR - bias_NR[:, -1:])[:, bucket_W]
        softmax = biased_softmax(qkv, relative_NW, mask, rows)
        y, kept = torch.empty_like(q), list[Tensor]()
        for block in blocks(S, rows):
            kept.append(softmax.weights(block, q[:, block.queries], k[:, block.keys], mask))
            y[:, block.queries] = torch.bmm(kept[-1], v[:, block.keys])
        ctx.save_for_backward(q, k, v, bias_NR, bucket_W, *kept)
        ctx.shape, ctx.rows, ctx.softmax = (B, S, N, D), rows, softmax
        return y.view(B, N, S, D).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias_NR, bucket_W, *kept = ctx.saved_tensors
        softmax: BiasedSoftmax = ctx.softmax
        B, S, N, D = ctx.shape
        dy = grads[0].transpose(1, 2).reshape(B * N, S, D)
        d_qkv = q.new_empty(3, B * N, S, D)
        dq, dk, dv = d_qkv.unbind(0)
        d_bias = softmax.new_gradient()
        for block, weights in zip(blocks(S, ctx.rows), kept, strict=True):
            here, past = block.queries, block.keys
            d_weights = torch.bmm(dy[:, here], v[:, past].mT)
            d_products = softmax.backward(block, d_weights, weights, d_bias)
            dq[:, here] = torch.bmm(d_products, k[:, past])
            if block.stop == S:  # blocks come from the last to the first, and this meets every key
                torch.bmm(d_products.mT, q[:, here], out=dk)
                torch.bmm(weights.mT, dy[:, here], out=dv)
            else:
                dk[:, past].baddbmm_(d_products.mT, q[:, here])
                dv[:, past].baddbmm_(weights.mT, dy[:, here])
        by_distance = softmax.by_distance(d_bias)
        d_bias_NR = torch.zeros_like(bias_NR).index_add_(1, bucket_W, by_distance)
        d_bias_NR[:, -1] -= d_bias_NR.sum(1)
        return d_qkv.view(3, B, N, S, D).permute(1, 3, 0, 2, 4), d_bias_NR, None, None, None


def rows_of_a_block(length: int, dtype: torch.dtype) -> int:
    """Of queries, the fastest of those that were tried."""
    wide = length <= 128 or (length >= 512 and dtype == torch.bfloat16)
    return min(length, 128 if wide else 64)


def block_attention(
    qkv: Float[Tensor, "B S 3 N D"], position: PositionBias, mask_BSS: Float[Tensor, "B S S"] | None
) -> Float[Tensor, "B S N D"]:
    """What `plain_attention` computes, of any length."""
    S = qkv.shape[1]
    bucket_W = position.buckets(min(S, position.max_distance))
    rows = rows_of_a_block(S, qkv.dtype)
    y = BlockAttention.apply(qkv, position.bias_NR, bucket_W, mask_BSS, rows)  # pyright: ignore
    return cast(Tensor, y)
