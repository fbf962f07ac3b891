"""Logits of the tied embedding, and their cross-entropy in memory that does not grow with them."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from glam import kernels
from glam.model.precision import at_least_float32

LOGITS_AT_ONCE = 2**25  # of one pair of products; 64 MB in bfloat16
LOGITS_IN_CACHE = 2**17  # of one softmax, in float32
PRODUCT_IN_CACHE = 2**20  # elements of a product on its way to a wider sum, on a CPU


class LossSplit(NamedTuple):
    """How a program of static shapes takes the logits of all tokens."""

    groups: int = 1  # of neighbouring tokens: the devices that the batch is split over
    pieces: int = 1  # of each group, one after another


WHOLE = LossSplit()


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
    backward. Raises ValueError for shapes that do not go together: a kernel would not see it.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w_VM: Tensor, targets: Tensor, cap: float | None, learns: bool
    ) -> tuple[Tensor, Tensor]:
        if x.shape[1] != w_VM.shape[1] or targets.shape != x.shape[:1]:
            shapes = f"x {list(x.shape)}, w {list(w_VM.shape)}, targets {list(targets.shape)}"
            raise ValueError(f"x [T, M], w [V, M] and targets [T] do not go together: {shapes}")
        losses = x.new_empty(len(x), dtype=torch.promote_types(x.dtype, torch.float32))
        ctx.gradients = (_room(x), _room(w_VM)) if learns else None
        form = _block_by_block if _suits(x, w_VM) else _row_by_row
        form(x, w_VM, targets, cap, losses, ctx.gradients)
        ctx.mark_non_differentiable(losses)
        return losses.mean(), losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("this loss can be differentiated once: its gradients were given out")
        (d_x, d_w), ctx.gradients = ctx.gradients, None
        scale = grads[0]
        if not scale.is_cpu or scale != 1:  # on a device nobody waits for the answer
            d_x, d_w = d_x.mul_(scale), d_w.mul_(scale)
        return d_x, d_w, None, None, None


class TracedLosses(torch.autograd.Function):
    """`FusedLosses` for a compiler that sees the step whole, and has the tokens split over
    `groups` devices and perhaps the vocabulary too: nothing is gathered by index, every device has
    its share of each piece, and adds up its own gradient of `w` before they are added together.

    `(x [T, M], w [V, M], targets [T], cap, groups, pieces) -> (mean, losses [T])`; T is a multiple
    of `groups * pieces`.
    """

    @staticmethod
    def forward(
        ctx: Any, x_TM: Tensor, w_VM: Tensor, targets_T: Tensor, cap: float | None, *split: int
    ) -> tuple[Tensor, Tensor]:
        groups, pieces = split
        x, targets = x_TM.view(groups, -1, x_TM.shape[1]), targets_T.view(groups, -1)
        w, token_V = w_VM.to(x.dtype), torch.arange(len(w_VM), device=x.device)
        losses, d_x = list[Tensor](), list[Tensor]()
        d_w = w_VM.new_zeros(groups, *w_VM.shape)
        for i in range(pieces):
            part, hot = x[:, i::pieces], targets[:, i::pieces, None] == token_V
            logits = at_least_float32(part @ w.t())
            bent = logits if cap is None else torch.tanh(logits / cap)
            logits = bent if cap is None else bent * cap
            losses.append(logits.logsumexp(-1) - torch.where(hot, logits, 0).sum(-1))
            grad = logits.softmax(-1) - hot.to(logits.dtype)
            grad = (grad if cap is None else grad * (1 - bent.square())).to(x.dtype)
            d_x.append(grad @ w)
            d_w = d_w + (grad.mT @ part).to(d_w.dtype)
        each = torch.stack(losses, 2).flatten()
        ctx.save_for_backward(torch.stack(d_x, 2).view_as(x_TM), d_w.sum(0))
        ctx.mark_non_differentiable(each)
        return each.mean(), each

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_x, d_w = ctx.saved_tensors
        scale = grads[0] / len(d_x)
        return (d_x * scale).to(d_x.dtype), (d_w * scale).to(d_w.dtype), None, None, None, None


Gradients = tuple[Tensor, Tensor]  # [T, M], [V, M] of the losses' mean


def _room(x: Tensor) -> Tensor:
    """For its gradient, row by row whatever its own strides."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _suits(x: Tensor, w: Tensor) -> bool:
    """Whether our own kernel is there for these. It wants tokens: of none nothing is written."""
    served = kernels.supported(x, w) and x.dtype == torch.bfloat16 and x.numel() > 0
    return served and x.shape[1] % kernels.TILE == 0 and kernels.has("output_loss_bf16")


def _block_by_block(
    x: Tensor,
    w: Tensor,
    targets: Tensor,
    cap: float | None,
    losses: Tensor,
    gradients: Gradients | None,
) -> None:
    """Four products, whose logits never leave the cache."""
    given = (x.contiguous(), w.contiguous(), targets.long().contiguous())
    made = gradients or (None, None)
    sizes = (*x.shape, len(w), cap or 0, 1 / len(x), w.dtype == torch.float32)
    _refuse_targets(kernels.call("output_loss_bf16", *given, losses, *made, *sizes), len(w))


def _row_by_row(
    x: Tensor,
    w_VM: Tensor,
    targets: Tensor,
    cap: float | None,
    losses: Tensor,
    gradients: Gradients | None,
) -> None:
    """Three products; the logits of some rows are forgotten before the next rows'."""
    w, learns = w_VM.to(x.dtype), gradients is not None
    if gradients is not None:
        gradients[1].zero_()
    for rows in _pieces(len(x), LOGITS_AT_ONCE // len(w)):
        logits = torch.mm(x[rows], w.t())
        _cross_entropy(logits, targets[rows], cap, learns, losses[rows])
        if gradients is not None:
            torch.mm(logits, w, out=gradients[0][rows])
            _add_product(gradients[1], logits.t(), x[rows])
    for gradient in gradients or ():
        gradient.div_(max(1, len(x)))


def _refuse_targets(failed: int, V: int) -> None:
    """What kernels say."""
    if failed < 0:
        raise MemoryError("no memory for the logits of a few tokens")
    if failed:
        raise IndexError(f"a target is not among the {V} tokens of the vocabulary")


def _pieces(total: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def _cross_entropy(
    logits: Tensor, targets: Tensor, cap: float | None, learns: bool, losses: Tensor
) -> None:
    """Writes `losses [rows]` of `logits [rows, V]`, which become their own gradients where one
    learns."""
    rows, V = logits.shape
    if kernels.supported(logits):
        scratch = logits.new_empty(torch.get_num_threads(), V, dtype=torch.float32)
        sizes = (rows, V, cap or 0, learns)
        given = (logits, targets.long().contiguous(), losses, scratch)
        _refuse_targets(kernels.call("cross_entropy", *given, *sizes), V)
        return
    for part in _pieces(rows, LOGITS_IN_CACHE // V):
        losses[part] = _cross_entropy_in_cache(logits[part], targets[part], cap, learns)


def _cross_entropy_in_cache(
    logits: Tensor, targets: Tensor, cap: float | None, learns: bool
) -> Tensor:
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


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """`total += a @ b`, where `total` may be of a wider type: then some rows at a time, whose
    product and its wide form never leave the cache (3 to 4 times as fast as all at once)."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
        return
    rows_at_once = PRODUCT_IN_CACHE // b.shape[1] if total.device.type == "cpu" else len(total)
    for rows in _pieces(len(total), rows_at_once):
        product = torch.mm(a[rows], b)
        if kernels.is_float32(total) and kernels.supported(product):
            kernels.call("add_narrow", total[rows], product, product.numel())
        else:
            total[rows].add_(product.to(total.dtype))


def token_losses(
    x: Float[Tensor, "T M"],
    w_VM: Float[Tensor, "V M"],
    targets: Int[Tensor, "T"],
    cap: float | None,
    split: LossSplit = WHOLE,
) -> TokenLosses:
    """Cross-entropy of every token and its mean, in nats. `split` is for XLA."""
    if x.device.type == "xla":
        groups = math.gcd(len(x), split.groups)
        pieces = math.gcd(len(x) // groups, split.pieces)
        return TokenLosses(
            *TracedLosses.apply(x, w_VM, targets, cap, groups, pieces)  # pyright: ignore
        )
    learns = torch.is_grad_enabled() and (x.requires_grad or w_VM.requires_grad)
    return TokenLosses(*FusedLosses.apply(x, w_VM, targets, cap, learns))  # pyright: ignore
