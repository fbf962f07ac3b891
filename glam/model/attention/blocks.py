"""Causal attention with a trainable bias on a CPU, one block of queries at a time.

Keys ahead of a block are not multiplied. The bias of the last bucket is subtracted from all, which
a softmax does not change: the bias is then zero beyond the maximum distance. A row of logit
gradients sums to zero, so the gradient of the last bucket is minus the sum of the others.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from glam.model.attention.biased_softmax import BiasedSoftmax, Block, biased_softmax
from glam.model.attention.position import PositionBias


def blocks(length: int, rows: int) -> Iterator[Block]:
    """From the last block to the first; only the first may be shorter."""
    return (Block(max(0, stop - rows), stop) for stop in range(length, 0, -rows))


class BlockAttention(torch.autograd.Function):
    """`(qkv [B, S, 3, N, D], bias [N, R], bucket of each distance [W], mask [B, S, S] or None,
    rows per block) -> [B, S, N, D]`"""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, bias_NR: Tensor, bucket_W: Tensor, mask: Tensor | None, rows: int
    ) -> Tensor:
        B, S, _, N, D = qkv.shape
        q, k, v = qkv.permute(2, 0, 3, 1, 4).reshape(3, B * N, S, D).unbind(0)
        relative_NW = (bias_NR - bias_NR[:, -1:])[:, bucket_W]
        softmax = biased_softmax(qkv, relative_NW, mask, rows)
        y, all_weights = torch.empty_like(q), list[Tensor]()
        for block in blocks(S, rows):
            all_weights.append(softmax.weights(block, q[:, block.queries], k[:, block.keys], mask))
            y[:, block.queries] = torch.bmm(all_weights[-1], v[:, block.keys])
        ctx.save_for_backward(q, k, v, bias_NR, bucket_W, *all_weights)
        ctx.shape, ctx.rows, ctx.softmax = (B, S, N, D), rows, softmax
        return y.view(B, N, S, D).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias_NR, bucket_W, *all_weights = ctx.saved_tensors
        softmax: BiasedSoftmax = ctx.softmax
        B, S, N, D = ctx.shape
        dy = grads[0].transpose(1, 2).reshape(B * N, S, D)
        d_qkv = q.new_empty(3, B * N, S, D)
        dq, dk, dv = d_qkv.unbind(0)
        d_bias = softmax.new_gradient()
        for block, weights in zip(blocks(S, ctx.rows), all_weights, strict=True):
            here, past = block.queries, block.keys
            d_weights = torch.bmm(dy[:, here], v[:, past].mT)
            d_products = softmax.backward(block, d_weights, weights, d_bias)
            dq[:, here] = torch.bmm(d_products, k[:, past])
            if block.stop == S:  # the first to come, and the one that meets every key
                torch.bmm(d_products.mT, q[:, here], out=dk)
                torch.bmm(weights.mT, dy[:, here], out=dv)
            else:
                dk[:, past].baddbmm_(d_products.mT, q[:, here])
                dv[:, past].baddbmm_(weights.mT, dy[:, here])
        by_distance = softmax.by_distance(d_bias)
        d_bias_NR = torch.zeros_like(bias_NR).index_add_(1, bucket_W, by_distance)
        d_bias_NR[:, -1] -= d_bias_NR.sum(1)
        return d_qkv.view(3, B, N, S, D).permute(1, 3, 0, 2, 4), d_bias_NR, None, None, None


def rows_per_block(length: int, dtype: torch.dtype) -> int:
    """Queries per block: the fastest of the sizes measured."""
    wide = length <= 128 or (length >= 512 and dtype == torch.bfloat16)
    return min(length, 128 if wide else 64)


def block_attention(
    qkv: Float[Tensor, "B S 3 N D"], position: PositionBias, mask_BSS: Float[Tensor, "B S S"] | None
) -> Float[Tensor, "B S N D"]:
    """`plain_attention` of any length, block by block."""
    S = qkv.shape[1]
    bucket_W = position.buckets(min(S, position.max_distance))
    rows = rows_per_block(S, qkv.dtype)
    y = BlockAttention.apply(qkv, position.bias_NR, bucket_W, mask_BSS, rows)  # pyright: ignore
    return cast(Tensor, y)
