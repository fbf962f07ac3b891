"""Feed-forwards and linear maps by weights in float32 by CPU kernels, forward and backward."""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from glam import kernels
from glam.model.gradient_pool import empty_like_pooled

# Elements of a weight up to which the kernels gain in bfloat16; beyond, torch's are as fast.
LARGEST_WEIGHT = 2**16


def products_supported(x: Tensor, *weights: Tensor) -> bool:
    """Whether the kernels multiply these, on the CPU: weights in float32, `x` in float32 or, by
    small weights whose sizes are multiples of TILE, in bfloat16."""
    if not (kernels.supported(x) and kernels.is_float32(*weights)) or x.numel() == 0:
        return False
    return x.dtype == torch.float32 or (kernels.has_gemm(x.dtype) and all(map(_fits, weights)))


def _fits(w: Tensor) -> bool:
    in_tiles = all(size % kernels.TILE == 0 for size in w.shape)
    return in_tiles and w.numel() <= LARGEST_WEIGHT


class FeedForwardCpuKernel(torch.autograd.Function):
    """`(x [.., M], w_gate [M, H] or None, w_in [M, H], w_out [H, M]) -> y [.., M]`: GEGLU, or
    without `w_gate` the plain form. Raises MemoryError where the workspace cannot be had."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_gate: Tensor | None, w_in: Tensor, w_out: Tensor) -> Tensor:
        x, w_in, w_out = x.contiguous(), w_in.contiguous(), w_out.contiguous()
        w_gate = None if w_gate is None else w_gate.contiguous()
        M, H = w_in.shape
        ctx.sizes = (x.numel() // M, M, H)
        pre_activation = x.new_empty(ctx.sizes[0], padded_hidden(H))
        gate = None if w_gate is None else torch.empty_like(pre_activation)
        y = torch.empty_like(x)
        _check(
            kernels.call(
                "feed_forward", x, w_gate, w_in, w_out, gate, pre_activation, y, *ctx.sizes
            )
        )
        ctx.save_for_backward(x, w_gate, w_in, w_out, gate, pre_activation)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, w_gate, w_in, w_out, gate, pre_activation = ctx.saved_tensors
        d_w_gate = None if w_gate is None else empty_like_pooled(w_gate)
        d_x, d_w_in, d_w_out = (
            torch.empty_like(x),
            empty_like_pooled(w_in),
            empty_like_pooled(w_out),
        )
        inputs = (grads[0].contiguous(), w_gate, w_in, w_out, gate, pre_activation)
        outputs = (d_x, d_w_gate, d_w_in, d_w_out)
        _check(kernels.call("feed_forward_backward", x, *inputs, *outputs, *ctx.sizes))
        return outputs


class LinearCpuKernel(torch.autograd.Function):
    """`(x [.., K], w [K, N]) -> x w [.., N]`. Raises MemoryError where the workspace cannot be
    had."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        x, w = x.contiguous(), w.contiguous()
        ctx.sizes = (x.numel() // w.shape[0], *w.shape)
        y = x.new_empty(*x.shape[:-1], w.shape[1])
        _check(kernels.call("linear", x, w, y, *ctx.sizes))
        ctx.save_for_backward(x, w)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        d_x, d_w = torch.empty_like(x), torch.empty_like(w)
        _check(
            kernels.call(
                "linear_backward", x, grads[0].contiguous(), w, d_x, d_w, *ctx.sizes, False
            )
        )
        return d_x, d_w


def padded_hidden(H: int) -> int:
    """Hidden units of a row, in the form in which the kernels keep them."""
    return -(-H // kernels.TILE) * kernels.TILE


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for the workspace of a product")


def feed_forward(
    x: Float[Tensor, "*rows M"],
    w_gate_MH: Float[Tensor, "M H"] | None,
    w_in_MH: Float[Tensor, "M H"],
    w_out_HM: Float[Tensor, "H M"],
) -> Float[Tensor, "*rows M"]:
    """(gelu(x w_gate) * (x w_in)) w_out, or gelu(x w_in) w_out, where `products_supported`."""
    y = FeedForwardCpuKernel.apply(x, w_gate_MH, w_in_MH, w_out_HM)  # pyright: ignore
    return cast(Tensor, y)


def linear(x: Float[Tensor, "*rows K"], w_KN: Float[Tensor, "K N"]) -> Float[Tensor, "*rows N"]:
    """x w, in the type of `x`: by the kernel where it is supported, else by torch."""
    if not products_supported(x, w_KN):
        return x @ w_KN.to(x.dtype)
    return cast(Tensor, LinearCpuKernel.apply(x, w_KN))  # pyright: ignore
