"""GELU in the erf form, alone, as GEGLU, and times an expert's gate; with their gradients. Kernels
compute them where they are supported, torch's operators elsewhere."""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from glam import kernels
from glam.model.precision import at_least_float32

aten = torch.ops.aten


class Gelu(torch.autograd.Function):
    """`x -> gelu(x)`"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return gelu_values(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        d_y = grads[0].contiguous()
        if not kernels.supported(x, d_y):
            return aten.gelu_backward(d_y, x)
        d_x = torch.empty_like(x)
        kernels.call("gelu_backward", d_y, x, d_x, x.numel())
        return d_x


class GatedGelu(torch.autograd.Function):
    """`(gate, x) -> gelu(gate) * x`. Only the two inputs are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, x: Tensor) -> Tensor:
        gate, x = gate.contiguous(), x.contiguous()
        ctx.save_for_backward(gate, x)
        if not kernels.supported(gate, x):
            return functional.gelu(gate).mul_(x)
        y = torch.empty_like(x)
        kernels.call("geglu", gate, x, y, x.numel())
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gate, x = ctx.saved_tensors
        d_y = grads[0].contiguous()
        if not kernels.supported(gate, d_y):
            return aten.gelu_backward(d_y * x, gate), functional.gelu(gate).mul_(d_y)
        d_gate, d_x = torch.empty_like(gate), torch.empty_like(x)
        kernels.call("geglu_backward", d_y, gate, x, d_gate, d_x, x.numel())
        return d_gate, d_x


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x * Phi(x), with a gradient."""
    return cast(Tensor, Gelu.apply(x.contiguous()))  # pyright: ignore


def gated_gelu(
    gate: Float[Tensor, "*shape"], x: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """GEGLU, gelu(gate) * x, with a gradient (arXiv 2002.05202)."""
    return cast(Tensor, GatedGelu.apply(gate, x))  # pyright: ignore


def gelu_values(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x * Phi(x), without a gradient."""
    if not kernels.supported(x):
        return functional.gelu(x)
    y = torch.empty_like(x)
    kernels.call("gelu", x, y, x.numel())
    return y


def gated_rows_backward(
    pre_activation: Float[Tensor, "rows H"],
    gates: Float[Tensor, "rows"],
    d: Float[Tensor, "rows H"],
) -> tuple[Float[Tensor, "rows H"], Float[Tensor, "rows"]]:
    """Gradient of `gate * gelu(pre_activation)`, from `d`, the gradient of the ungated GELU.

    Returns `gate * gelu(pre_activation)` and the gradient of the gates, in float32 at least. `d` is
    overwritten with the gradient of `pre_activation`.
    """
    if kernels.supported(pre_activation, d) and kernels.is_float32(gates):
        gated, d_gates = torch.empty_like(pre_activation), torch.empty_like(gates)
        kernels.call(
            "gated_gelu_backward", pre_activation, gates, d, gated, d_gates, *pre_activation.shape
        )
        return gated, d_gates
    gated = functional.gelu(pre_activation)
    d_gates = (at_least_float32(gated) * at_least_float32(d)).sum(-1)
    gate = gates.to(d.dtype)[:, None]
    d.mul_(gate)
    aten.gelu_backward.grad_input(d, pre_activation, grad_input=d)
    return gated.mul_(gate), d_gates
