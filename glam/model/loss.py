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
    """`plain_losses` that keeps the gradient of the logits, in the activations' dtype, and nothing
    else of their size. `(x [T, M], w [V, M], targets [T]) -> [T]`

    Rows go through in blocks that stay in the cache. A row's gradient is scaled on the narrow
    side of the products, so the backward pass never walks over the logits again.
    """

    BLOCK = 64  # rows

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_VM: Tensor, targets: Tensor) -> Tensor:
        w = w_VM.to(x.dtype)
        kept, losses = torch.mm(x, w.t()), list[Tensor]()  # logits first, then their gradients
        # Two buffers for all blocks: fresh memory would cost more than what is computed in it.
        wide = torch.promote_types(x.dtype, torch.float32)
        buffers = torch.empty(2, FusedLosses.BLOCK, len(w), dtype=wide)
        for start in range(0, len(x), FusedLosses.BLOCK):
            rows = slice(start, start + FusedLosses.BLOCK)
            logits, softmax = buffers[:, : len(kept[rows])]
            target = targets[rows, None]
            logits.copy_(kept[rows])
            torch.softmax(logits, -1, out=softmax)
            # ln of the partition, from the likeliest token: its share can't underflow.
            partition = logits.amax(-1) - softmax.amax(-1).log()
            losses.append(partition - logits.gather(1, target)[:, 0])
            kept[rows] = softmax.scatter_add_(1, target, softmax.new_full(target.shape, -1))
        ctx.save_for_backward(x, w, kept)
        ctx.weight_dtype = w_VM.dtype
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, w, d_logits = ctx.saved_tensors
        scale = grads[0].to(x.dtype)[:, None]
        d_w = torch.mm(d_logits.t(), x * scale)
        return torch.mm(d_logits, w).mul_(scale), d_w.to(ctx.weight_dtype), None


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
