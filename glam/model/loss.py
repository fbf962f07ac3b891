"""Logits of the tied embedding, and their cross-entropy in modest memory."""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from glam.model.precision import at_least_float32
from glam.model.rematerialize import rematerialized

# Above this many logits (256 MB in float32) they are made and forgotten chunk by chunk.
LOGITS_AT_ONCE = 2**26


def output_logits(
    x: Float[Tensor, "T M"], w_VM: Float[Tensor, "V M"], cap: float | None
) -> Float[Tensor, "T V"]:
    """Logits in float32; with a `cap` they become cap * tanh(logits / cap)."""
    logits = at_least_float32(x @ w_VM.to(x.dtype).t())
    return logits if cap is None else cap * torch.tanh(logits / cap)


def plain_losses(
    x: Float[Tensor, "T M"],
    w_VM: Float[Tensor, "V M"],
    targets: Int[Tensor, "T"],
    cap: float | None,
) -> Float[Tensor, "T"]:
    return functional.cross_entropy(output_logits(x, w_VM, cap), targets, reduction="none")


class FusedLosses(torch.autograd.Function):
    """`plain_losses` that keeps the softmax in the activations' dtype and nothing else.

    Rows go through in blocks that stay in the cache. The gradient of a row's loss is scaled on
    the narrow side of the products, so the backward pass never walks over the logits again.
    """

    BLOCK = 64  # rows

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_VM: Tensor, targets: Tensor) -> Tensor:
        w = w_VM.to(x.dtype)
        weights, losses = x.new_empty(len(x), len(w)), list[Tensor]()
        # Two buffers for all blocks: fresh memory would cost more than what is computed in it.
        wide = torch.promote_types(x.dtype, torch.float32)
        buffers = torch.empty(2, FusedLosses.BLOCK, len(w), dtype=wide)
        for start in range(0, len(x), FusedLosses.BLOCK):
            rows = slice(start, start + FusedLosses.BLOCK)
            logits, softmax = buffers[:, : len(weights[rows])]
            logits.copy_(torch.mm(x[rows], w.t(), out=weights[rows]))
            torch.softmax(logits, -1, out=softmax)
            weights[rows] = softmax
            # ln of the partition, from the likeliest token: its share can't underflow.
            partition = logits.amax(-1) - softmax.amax(-1).log()
            losses.append(partition - logits.gather(1, targets[rows, None])[:, 0])
        ctx.save_for_backward(x, w, weights, targets)
        ctx.weight_dtype = w_VM.dtype
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, w, weights, targets = ctx.saved_tensors
        scale = grads[0].to(x.dtype)[:, None]
        d_x = torch.mm(weights, w).sub_(w.index_select(0, targets)).mul_(scale)
        scaled = x * scale
        d_w = torch.mm(weights.t(), scaled).to(ctx.weight_dtype)
        d_w.index_add_(0, targets, scaled.to(ctx.weight_dtype), alpha=-1)
        return d_x, d_w, None


def token_losses(
    x: Float[Tensor, "T M"],
    w_VM: Float[Tensor, "V M"],
    targets: Int[Tensor, "T"],
    cap: float | None,
) -> Float[Tensor, "T"]:
    """Cross-entropy of every token, in nats."""
    rows = max(1, LOGITS_AT_ONCE // len(w_VM))
    if len(x) > rows:
        chunks = zip(torch.split(x, rows), torch.split(targets, rows), strict=True)
        return torch.cat([rematerialized(plain_losses, part, w_VM, t, cap) for part, t in chunks])
    if x.device.type == "cpu" and cap is None:
        return cast(Tensor, FusedLosses.apply(x, w_VM, targets))  # pyright: ignore
    return plain_losses(x, w_VM, targets, cap)
