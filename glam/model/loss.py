"""Logits of the tied embedding, and their cross-entropy. Logits are computed piece by piece: [T, V]
of them are never in memory at once."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from glam import kernels
from glam.model.compiled import is_compiled
from glam.model.precision import at_least_float32

LOGITS_AT_ONCE = 2**25  # logits of a piece; 64 MB in bfloat16
LOGITS_IN_CACHE = 2**17  # logits of one softmax, in float32
# On a GPU a piece also costs a pass over the gradient of `w`: 1 GB of logits in bfloat16.
LOGITS_ON_GPU = 2**29
FLOAT32_ON_GPU = 2**26  # logits of one softmax by operators, which keep several copies of them
PRODUCT_IN_CACHE = 2**20  # elements of a bfloat16 product that is added to a float32 sum


class LossSplit(NamedTuple):
    """The pieces in which a program of static shapes (XLA) computes the logits."""

    groups: int = 1  # of neighbouring tokens: one for each device that the batch is split over
    pieces: int = 1  # of a group, computed one after another


WHOLE = LossSplit()

# `(logits [rows, V], targets [rows], cap, with_gradient) -> losses [rows]`; `with_gradient`
# overwrites the logits with their gradients.
Softmax = Callable[[Tensor, Tensor, float | None, bool], Tensor]


class TokenLosses(NamedTuple):
    """Cross-entropy in nats. Only `mean` has a gradient."""

    mean: Float[Tensor, ""]
    each: Float[Tensor, "T"]


def output_logits(
    x: Float[Tensor, "T M"], w_VM: Float[Tensor, "V M"], cap: float | None
) -> Float[Tensor, "T V"]:
    """Logits, in float32 at least. With a `cap` they are cap * tanh(logits / cap)."""
    logits = at_least_float32(x @ w_VM.to(x.dtype).t())
    return logits if cap is None else cap * torch.tanh(logits / cap)


def plain_losses(
    x: Float[Tensor, "T M"],
    w_VM: Float[Tensor, "V M"],
    targets: Int[Tensor, "T"],
    cap: float | None,
) -> Float[Tensor, "T"]:
    """Cross-entropy by its definition, in nats. Keeps the logits: the oracle of the tests."""
    return functional.cross_entropy(output_logits(x, w_VM, cap), targets, reduction="none")


class FusedLosses(torch.autograd.Function):
    """`(x [T, M], w [V, M], targets [T], cap, with_gradient, softmax) -> (mean, losses [T])`

    Gradients are computed in the forward pass, while the logits exist, and only scaled in the
    backward pass. Raises ValueError for shapes that do not fit, which a kernel cannot notice, and
    RuntimeError for a second backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_VM: Tensor,
        targets: Tensor,
        cap: float | None,
        with_gradient: bool,
        softmax: Softmax,
    ) -> tuple[Tensor, Tensor]:
        if x.shape[1] != w_VM.shape[1] or targets.shape != x.shape[:1]:
            shapes = f"x {list(x.shape)}, w {list(w_VM.shape)}, targets {list(targets.shape)}"
            raise ValueError(f"x [T, M], w [V, M] and targets [T] do not go together: {shapes}")
        losses = x.new_empty(len(x), dtype=torch.promote_types(x.dtype, torch.float32))
        ctx.gradients = (_gradient_like(x), _gradient_like(w_VM)) if with_gradient else None
        form = _by_kernel if _kernel_supported(x, w_VM) else partial(_by_pieces, softmax)
        form(x, w_VM, targets, cap, losses, ctx.gradients)
        ctx.mark_non_differentiable(losses)
        return losses.mean(), losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("this loss can be differentiated once: its gradients are gone")
        (d_x, d_w), ctx.gradients = ctx.gradients, None
        scale = grads[0]
        if not scale.is_cpu or scale != 1:  # on a device nobody waits for the answer
            d_x, d_w = d_x.mul_(scale), d_w.mul_(scale)
        return d_x, d_w, None, None, None, None


class TracedLosses(torch.autograd.Function):
    """`FusedLosses` for XLA, which compiles the step as a whole with tokens split over `groups`
    devices, and the vocabulary maybe too. Nothing is gathered by index, every device has a part of
    each piece, and sums its own gradient of `w` before the devices' are added.

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
            squashed = logits if cap is None else torch.tanh(logits / cap)
            logits = squashed if cap is None else squashed * cap
            losses.append(logits.logsumexp(-1) - torch.where(hot, logits, 0).sum(-1))
            grad = logits.softmax(-1) - hot.to(logits.dtype)
            grad = (grad if cap is None else grad * (1 - squashed.square())).to(x.dtype)
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


Gradients = tuple[Tensor, Tensor]  # of the mean loss: [T, M] and [V, M]


def _gradient_like(x: Tensor) -> Tensor:
    """An uninitialized contiguous gradient of `x`, whatever the strides of `x`."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _kernel_supported(x: Tensor, w: Tensor) -> bool:
    """Whether the kernel computes this loss of some tokens: float32; bfloat16 with AMX, M a
    multiple of TILE."""
    if not kernels.supported(x, w) or not x.numel():
        return False
    if x.dtype == torch.float32:
        return w.dtype == torch.float32
    return x.shape[1] % kernels.TILE == 0 and kernels.has("output_loss_bf16")


def _by_kernel(
    x: Tensor,
    w: Tensor,
    targets: Tensor,
    cap: float | None,
    losses: Tensor,
    gradients: Gradients | None,
) -> None:
    """Losses and gradients by the kernel, with logits that stay in the cache: three products in
    float32, in bfloat16 four."""
    inputs = (x.contiguous(), w.contiguous(), targets.long().contiguous())
    outputs = gradients or (None, None)
    sizes = (*x.shape, len(w), cap or 0, 1 / len(x), w.dtype == torch.float32)
    _refuse_targets(kernels.call("output_loss", *inputs, losses, *outputs, *sizes), len(w))


def _by_pieces(
    softmax: Softmax,
    x: Tensor,
    w_VM: Tensor,
    targets: Tensor,
    cap: float | None,
    losses: Tensor,
    gradients: Gradients | None,
) -> None:
    """Losses and gradients by three of torch's products, LOGITS_AT_ONCE logits at a time."""
    at_once = LOGITS_AT_ONCE if x.is_cpu else LOGITS_ON_GPU
    w, with_gradient = w_VM.to(x.dtype), gradients is not None
    if gradients is not None:
        gradients[1].zero_()
    for rows in _pieces(len(x), at_once // len(w)):
        logits = torch.mm(x[rows], w.t())
        _cross_entropy(logits, targets[rows], cap, with_gradient, losses[rows], softmax)
        if gradients is not None:
            torch.mm(logits, w, out=gradients[0][rows])
            _add_product(gradients[1], logits.t(), x[rows])
    for gradient in gradients or ():
        gradient.div_(max(1, len(x)))


def _refuse_targets(failed: int, V: int) -> None:
    """Raises what a kernel's result stands for: IndexError, MemoryError."""
    if failed < 0:
        raise MemoryError("no memory for the logits of a few tokens")
    if failed:
        raise IndexError(f"a target is not among the {V} tokens of the vocabulary")


def _pieces(total: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def _cross_entropy(
    logits: Tensor,
    targets: Tensor,
    cap: float | None,
    with_gradient: bool,
    losses: Tensor,
    softmax: Softmax,
) -> None:
    """Writes `losses [rows]` of `logits [rows, V]`; `with_gradient` overwrites the logits with
    their gradients."""
    rows, V = logits.shape
    if kernels.supported(logits):
        scratch = logits.new_empty(torch.get_num_threads(), V, dtype=torch.float32)
        sizes = (rows, V, cap or 0, with_gradient)
        inputs = (logits, targets.long().contiguous(), losses, scratch)
        _refuse_targets(kernels.call("cross_entropy", *inputs, *sizes), V)
        return
    if with_gradient and softmax is not softmax_losses:  # whole: it makes no copies
        losses.copy_(softmax(logits, targets, cap, with_gradient))
        return
    for part in _pieces(rows, (LOGITS_IN_CACHE if logits.is_cpu else FLOAT32_ON_GPU) // V):
        losses[part] = softmax_losses(logits[part], targets[part], cap, with_gradient)


def compiled_softmax(backend: Any = "inductor") -> Softmax:
    """`softmax_losses` in one pass over logits that stay where they are, by torch.compile. Only for
    losses with gradients: those of training, of one shape, and not of every length evaluated."""
    compile_ = cast(Any, torch).compile  # which is half typed
    return compile_(softmax_losses, fullgraph=True, dynamic=False, backend=backend)


def softmax_losses(
    logits: Tensor, targets: Tensor, cap: float | None, with_gradient: bool
) -> Tensor:
    """A `Softmax` by operators."""
    wide, target = at_least_float32(logits), targets[:, None]
    slope = None
    if cap is not None:
        squashed = torch.tanh(wide / cap)
        wide, slope = cap * squashed, 1 - squashed.square()
    softmax = torch.softmax(wide, -1)
    # Log-partition from the likeliest token: its probability cannot underflow.
    partition = wide.amax(-1) - softmax.amax(-1).log()
    losses = partition - wide.gather(1, target)[:, 0]
    if with_gradient:
        gradient = softmax.scatter_add_(1, target, softmax.new_full(target.shape, -1))
        logits.copy_(gradient if slope is None else gradient.mul_(slope))
    return losses


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """`total += a @ b`. For a `total` of a wider type by pieces of its rows, whose products stay in
    the cache: 3 to 4 times as fast as the whole product at once."""
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
    softmax: Softmax = softmax_losses,
) -> TokenLosses:
    """Cross-entropy of every token and its mean, in nats; `split` is for whole compiled steps.
    Raises ValueError for shapes that do not fit, and on a CPU IndexError for a target outside the
    vocabulary."""
    if is_compiled(x.device):
        groups = math.gcd(len(x), split.groups)
        pieces = math.gcd(len(x) // groups, split.pieces)
        return TokenLosses(
            *TracedLosses.apply(x, w_VM, targets, cap, groups, pieces)  # pyright: ignore
        )
    with_gradient = torch.is_grad_enabled() and (x.requires_grad or w_VM.requires_grad)
    return TokenLosses(*FusedLosses.apply(x, w_VM, targets, cap, with_gradient, softmax))  # pyright: ignore
