"""RMS norm with a learned scale (arXiv 1910.07467): y = x / sqrt(mean(x^2) + EPSILON) * scale."""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glam import kernels
from glam.model.precision import at_least_float32

EPSILON = 1e-6


class RootMeanSquareNorm(torch.autograd.Function):
    """`(x [..., M], scale [M]) -> [..., M]`. One function, since torch's rms_norm is many small
    operators on a CPU, and autograd differentiates each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale_M: Tensor) -> Tensor:
        if kernels.supported(x) and kernels.is_float32(scale_M):
            x = x.contiguous()
            y = torch.empty_like(x)
            inverse = x.new_empty(*x.shape[:-1], 1, dtype=torch.float32)
            sizes = (inverse.numel(), x.shape[-1])
            kernels.call("rms_norm", x, scale_M, y, inverse, *sizes, EPSILON)
            ctx.save_for_backward(x, scale_M, inverse)
            return y
        wide, M = at_least_float32(x), x.shape[-1]
        linalg: Any = torch.linalg  # which has no types
        length: Tensor = linalg.vector_norm(wide, dim=-1, keepdim=True)
        inverse = length.square_().div_(M).add_(EPSILON).rsqrt_()
        ctx.save_for_backward(x, scale_M, inverse)
        return (wide * inverse).mul_(scale_M).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, scale_M, inverse = ctx.saved_tensors
        if kernels.supported(x) and kernels.is_float32(scale_M):
            d_y, d_x = grads[0].contiguous(), torch.empty_like(x)
            d_scale = scale_M.new_empty(kernels.CHUNKS, len(scale_M))
            sizes = (inverse.numel(), x.shape[-1])
            kernels.call("rms_norm_backward", d_y, x, scale_M, inverse, d_x, d_scale, *sizes)
            return d_x, d_scale.sum(0)
        normal, dy = x * inverse, at_least_float32(grads[0])
        along = dy * normal
        mean = (along @ scale_M).div_(x.shape[-1]).unsqueeze(-1)
        d_x = (dy * scale_M).addcmul_(normal, mean, value=-1).mul_(inverse)
        return d_x.to(x.dtype), along.flatten(0, -2).sum(0)


class RMSNorm(nn.Module):
    """RMS norm over the last axis."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale_M = nn.Parameter(torch.ones(size))

    def forward(self, x: Float[Tensor, "B S M"]) -> Float[Tensor, "B S M"]:
        y = RootMeanSquareNorm.apply(x, self.scale_M)  # pyright: ignore
        return cast(Tensor, y)
