"""Attention by a CPU kernel, a head at a time, forward and backward. Computes what
`block_attention` does, where `kernel_supported`."""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from glam import kernels
from glam.model.attention.position import PositionBias


class HeadAttention(torch.autograd.Function):
    """`(qkv [B, S, 3, N, D], bias [N, R], bucket of each distance [W], mask [B, S, S] or None)
    -> [B, S, N, D]`. Raises MemoryError where a head's workspace cannot be had."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, bias_NR: Tensor, bucket_W: Tensor, mask: Tensor | None
    ) -> Tensor:
        qkv, mask = qkv.contiguous(), None if mask is None else mask.contiguous()
        B, S, _, N, D = qkv.shape
        ctx.sizes = (B, S, N, D, len(bucket_W), D**-0.5)
        bias = kernels.pad((bias_NR - bias_NR[:, -1:])[:, bucket_W].flip(1), end=-torch.inf)
        weights, y = qkv.new_empty(B * N, weights_per_head(S)), qkv.new_empty(B, S, N, D)
        if kernels.call("attention_forward", qkv, bias, mask, weights, y, *ctx.sizes):
            raise MemoryError("no memory for a head of attention")
        ctx.save_for_backward(qkv, bias_NR, bucket_W, weights)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        qkv, bias_NR, bucket_W, weights = ctx.saved_tensors
        B, N, W = len(qkv), len(bias_NR), len(bucket_W)
        d_qkv, d_y = torch.empty_like(qkv), grads[0].contiguous()
        d_bias = kernels.pad(bias_NR.new_zeros(B * N, W))
        if kernels.call("attention_backward", qkv, d_y, weights, d_bias, d_qkv, *ctx.sizes):
            raise MemoryError("no memory for a head of attention")
        by_distance = kernels.unpad(d_bias).reshape(B, N, W).sum(0).flip(1)
        d_bias_NR = torch.zeros_like(bias_NR).index_add_(1, bucket_W, by_distance)
        d_bias_NR[:, -1] -= d_bias_NR.sum(1)
        return d_qkv, d_bias_NR, None, None


def weights_per_head(length: int) -> int:
    """Attention weights kept of a head: chunks of TILE queries, each with the keys up to its
    end."""
    chunks = -(-length // kernels.TILE)
    return kernels.TILE**2 * chunks * (chunks + 1) // 2


def kernel_supported(qkv: Tensor, position: PositionBias, mask: Tensor | None) -> bool:
    """Whether the kernel takes these: `qkv` of a type with products, a float32 bias, and a mask of
    the type of `qkv`."""
    masked = mask is None or mask.dtype == qkv.dtype
    served = kernels.supported(qkv) and kernels.is_float32(position.bias_NR)
    return masked and served and kernels.has_gemm(qkv.dtype)


def head_attention(
    qkv: Float[Tensor, "B S 3 N D"], position: PositionBias, mask_BSS: Float[Tensor, "B S S"] | None
) -> Float[Tensor, "B S N D"]:
    """`plain_attention` of any length, by the kernel."""
    bucket_W = position.buckets(min(qkv.shape[1], position.max_distance))
    y = HeadAttention.apply(qkv, position.bias_NR, bucket_W, mask_BSS)  # pyright: ignore
    return cast(Tensor, y)
