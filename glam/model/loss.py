"""Logits of the tied embedding, and their cross-entropy in memory that does not grow with them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from glam.model.precision import at_least_float32

LOGITS_AT_ONCE = 2**25  # of one pair of products; 64 MB in bfloat16
LOGITS_IN_CACHE = 2**17  # of one softmax, in float32


class TokenLosses(NamedTuple):
    """In nats. Only `mean` has a gradient."""

    mean: Float[Tensor, ""]
    each: Float[Tensor, "T"]


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
    """The definition; it keeps the logits."""
    return functional.cross_entropy(output_logits(x, w_VM, cap), targets, reduction="none")


class FusedLosses(torch.autograd.Function):
    """`(x [T, M], w [V, M], targets [T], cap, whether gradients are wanted) -> (mean, losses [T])`

    The gradients are made in the forward pass, while the logits are there, and only scaled in the
    backward: so three products are all there is, and the logits of a few rows are forgotten before
    the next rows'.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w_VM: Tensor, targets: Tensor, cap: float | None, learns: bool
    ) -> tuple[Tensor, Tensor]:
        w = w_VM.to(x.dtype)
        losses = x.new_empty(len(x), dtype=torch.promote_types(x.dtype, torch.float32))
        d_x, d_w = torch.empty_like(x) if learns else None, None
        for rows in _pieces(len(x), LOGITS_AT_ONCE // len(w)):
            logits = torch.mm(x[rows], w.t())
            for part in _pieces(len(logits), LOGITS_IN_CACHE // len(w)):
                losses[rows][part] = _cross_entropy(logits[part], targets[rows][part], cap, learns)
            if d_x is not None:
                torch.mm(logits, w, out=d_x[rows])
                d_w = _add_product(d_w, logits.t(), x[rows], w_VM.dtype)
        ctx.gradients = (d_x, d_w) if learns else None
        ctx.mark_non_differentiable(losses)
        return losses.mean(), losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("this loss can be differentiated once: its gradients were given out")
        (d_x, d_w), ctx.gradients = ctx.gradients, None
        scale = grads[0] / len(d_x)
        return d_x.mul_(scale), d_w.mul_(scale), None, None, None


def _pieces(total: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def _cross_entropy(logits: Tensor, targets: Tensor, cap: float | None, learns: bool) -> Tensor:
    """Losses `[rows]` of `logits [rows, V]`, which become their own gradients where one learns."""
    wide, target = at_least_float32(logits), targets[:, None]
    slope = None
    if cap is not None:
        bent = torch.tanh(wide / cap)
        wide, slope = cap * bent, 1 - bent.square()
    softmax = torch.softmax(wide, -1)
    # ln of the partition, from the likeliest token: its share can't underflow.
    partition = wide.amax(-1) - softmax.amax(-1).log()
    losses = partition - wide.gather(1, target)[:, 0]
    if learns:
        gradient = softmax.scatter_add_(1, target, softmax.new_full(target.shape, -1))
        logits.copy_(gradient if slope is None else gradient.mul_(slope))
    return losses


def _add_product(total: Tensor | None, a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """`total + a @ b`, in place; of type `dtype`, which may be wider than that of `a` and `b`."""
    if total is None:
        return torch.mm(a, b).to(dtype)
    return total.addmm_(a, b) if dtype == a.dtype else total.add_(torch.mm(a, b))


def token_losses(
    x: Float[Tensor, "T M"],
    w_VM: Float[Tensor, "V M"],
    targets: Int[Tensor, "T"],
    cap: float | None,
) -> TokenLosses:
    """Cross-entropy of every token and its mean, in nats."""
    if x.device.type == "xla":  # whose compiler fuses better what it sees whole
        each = plain_losses(x, w_VM, targets, cap)
        return TokenLosses(each.mean(), each.detach())
    learns = torch.is_grad_enabled() and (x.requires_grad or w_VM.requires_grad)
    return TokenLosses(*FusedLosses.apply(x, w_VM, targets, cap, learns))  # pyright: ignore
