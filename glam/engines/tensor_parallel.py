# torch.distributed has half its types.
# pyright: basic
"""Tensor parallelism (Megatron-LM, arXiv 1909.08053): the processes of a group have the same tokens
and a part of the heads, of the hidden units and of the vocabulary each. Products with their parts
are summed over the group; what it computes alike in all processes is not.

    whole     x  ->  sum of x's gradients in the backward pass        (`shared`)
    partial   y  ->  sum of y over the group in the forward pass      (`summed`)
    between layers activations are split along their width where the table says so (`WidthSplit`)
"""

import math
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed.tensor import DTensor
from torch.nn import functional

from glam.engines.expert_parallel import local
from glam.model import Glam
from glam.model.layer_runner import LayerRunner
from glam.model.loss import LossSplit, TokenLosses
from glam.model.moe.dispatch import Dispatcher
from glam.model.moe.experts import Experts
from glam.model.moe.moe import MixtureOfExperts
from glam.model.moe.routing import Dispatched, Routing
from glam.model.precision import at_least_float32
from glam.model.vocabulary import Vocabulary


def sum_over(x: Tensor, group: ProcessGroup, op: Any = dist.ReduceOp.SUM) -> Tensor:
    """The sum of each process's `x`, in all of them; or another reduction."""
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, op, group=group)
    return total


def joined(x: Tensor, group: ProcessGroup) -> Tensor:
    """The parts of all processes, side by side along the last dimension."""
    x = x.detach().contiguous()
    parts = [torch.empty_like(x) for _ in range(group.size())]
    dist.all_gather(parts, x, group=group)
    return torch.cat(parts, -1)


def part_of(x: Tensor, group: ProcessGroup) -> Tensor:
    """This process's part of `x` along the last dimension."""
    return x.chunk(group.size(), -1)[group.rank()].contiguous()


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return sum_over(grads[0], ctx.group), None


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        return sum_over(x, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None


class _Joined(torch.autograd.Function):
    """Of what every process then goes on with alike, so that each has the whole gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return joined(x, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return part_of(grads[0], ctx.group), None


class _PartOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return part_of(x, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return joined(grads[0], ctx.group), None


def shared(x: Tensor, group: ProcessGroup) -> Tensor:
    """`x`, which every process uses for its part; the parts' gradients are summed."""
    return cast(Tensor, _Shared.apply(x, group))  # pyright: ignore


def summed(x: Tensor, group: ProcessGroup) -> Tensor:
    """The sum of the processes' parts, with the gradient that each of them has."""
    return cast(Tensor, _Summed.apply(x, group))  # pyright: ignore


def split_module(module: nn.Module, group: ProcessGroup) -> None:
    """Attention or a feed-forward whose weights are parts: its input is the whole's, and its output
    the sum over the group."""

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return shared(inputs[0], group), *inputs[1:]

    def after(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return summed(output, group)

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after)


class SplitExperts(NamedTuple):
    """`dispatch` with experts that have a part of their hidden units here."""

    dispatch: Dispatcher
    group: ProcessGroup

    def __call__(self, x_BSM: Tensor, routing: Routing, experts: Experts) -> Dispatched:
        mine = routing._replace(gates=shared(routing.gates, self.group))
        y_BSM, dropped = self.dispatch(shared(x_BSM, self.group), mine, experts)
        return Dispatched(summed(y_BSM, self.group), dropped)


def split_layers(model: Glam, group: ProcessGroup, is_split: dict[str, bool]) -> None:
    """`is_split` says by name which weights are parts. Dispatchers are the model's Backend's."""
    for name, module in model.named_modules():
        own = [f"{name}.{weight}" for weight, _ in module.named_parameters(recurse=False)]
        is_layers_part = name.rpartition(".")[2] in ("attention", "ffn")
        is_moe = isinstance(module, MixtureOfExperts)
        if is_layers_part and not is_moe and any(is_split[weight] for weight in own):
            split_module(module, group)


def use_local_weights(model: Glam) -> None:
    """Let the modules of every layer see the part that this process holds of a weight, a plain
    tensor, for the time of the layer's forward pass. Registered after FSDP's hooks, which have
    gathered the others by then."""
    for layer in model.layers:
        layer.register_forward_pre_hook(_show_local)
        layer.register_forward_hook(_hide_local)


def _show_local(layer: nn.Module, inputs: Any) -> None:
    for module in layer.modules():
        for name, weight in module.named_parameters(recurse=False):
            if isinstance(weight, DTensor):
                vars(module)[name] = weight.to_local()  # found before the parameter of that name


def _hide_local(layer: nn.Module, inputs: Any, output: Any) -> None:
    for module in layer.modules():
        for name, _ in module.named_parameters(recurse=False):
            vars(module).pop(name, None)


class WidthSplit(NamedTuple):
    """A layer runner's `call` under which each process keeps a part of the width between layers:
    what rematerialization keeps of a layer is its input."""

    call: Any  # of a runner: `call(function, *args)`
    group: ProcessGroup

    def __call__(self, layer: nn.Module, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Any]:
        return self.call(self._by_parts, x, mask, layer=layer)

    def _by_parts(self, x: Tensor, mask: Tensor | None, *, layer: nn.Module) -> tuple[Tensor, Any]:
        y, statistics = layer(_Joined.apply(x, self.group), mask)  # pyright: ignore
        return _PartOf.apply(y, self.group), statistics  # pyright: ignore


def by_parts(run: LayerRunner, group: ProcessGroup) -> LayerRunner:
    """`run` for layers that take and return parts of the width."""

    def runner(
        layers: nn.ModuleList, x: Tensor, segments: Tensor | None
    ) -> tuple[Tensor, list[Any]]:
        part, statistics = run(layers, _PartOf.apply(x, group), segments)  # pyright: ignore
        return _Joined.apply(part, group), statistics  # pyright: ignore

    return runner


class _SplitLosses(torch.autograd.Function):
    """`FusedLosses` where each process has the logits of a part of the vocabulary. Only maxima,
    sums and the targets' logits of tokens cross the group, and the gradient of `x` once.

    `(x [T, M], w [V of here, M], targets [T], cap, pieces, group, with gradient) ->
    (mean, losses [T])`
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_VM: Tensor,
        targets: Tensor,
        cap: float | None,
        pieces: int,
        group: ProcessGroup,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        w, losses, d_x = w_VM.to(x.dtype), list[Tensor](), list[Tensor]()
        d_w = torch.zeros_like(w_VM)
        token_V = group.rank() * len(w) + torch.arange(len(w), device=x.device)
        for part, target in zip(x.chunk(pieces), targets.chunk(pieces), strict=True):
            hot = target[:, None] == token_V
            loss, grad = _part_of_losses(at_least_float32(part @ w.t()), hot, cap, group)
            losses.append(loss)
            if with_gradient:
                grad = grad.to(x.dtype)
                d_x.append(grad @ w)
                d_w += (grad.mT @ part).to(d_w.dtype)
        each = torch.cat(losses)
        if with_gradient:
            ctx.save_for_backward(sum_over(torch.cat(d_x), group), d_w)
        ctx.mark_non_differentiable(each)
        return each.mean(), each

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_x, d_w = ctx.saved_tensors
        scale = grads[0] / len(d_x)
        return (d_x * scale).to(d_x.dtype), (d_w * scale).to(d_w.dtype), *[None] * 5


def _part_of_losses(
    logits: Tensor, hot: Tensor, cap: float | None, group: ProcessGroup
) -> tuple[Tensor, Tensor]:
    """Losses `[rows]` and the gradients of these logits `[rows, V of here]`. `hot` marks the
    targets that are here."""
    squashed = logits if cap is None else torch.tanh(logits / cap)
    logits = squashed if cap is None else squashed * cap
    largest = sum_over(logits.amax(-1), group, dist.ReduceOp.MAX)
    exponentials = (logits - largest[:, None]).exp()
    sums = torch.stack([exponentials.sum(-1), torch.where(hot, logits, 0).sum(-1)])
    partition, target = sum_over(sums, group).unbind()
    grad = exponentials / partition[:, None] - hot.to(logits.dtype)
    if cap is not None:
        grad = grad * (1 - squashed.square())
    return partition.log() + largest - target, grad


class SplitVocabulary(Vocabulary):
    """Each process of the group has the rows of a part of the tokens."""

    def __init__(self, group: ProcessGroup) -> None:
        self.group = group

    def embed(self, tokens: Tensor, w_VM: Tensor) -> Tensor:
        w = local(w_VM)
        row = tokens - self.group.rank() * len(w)
        is_here = (row >= 0) & (row < len(w))
        found = functional.embedding(row.clamp(0, len(w) - 1), w)
        return summed(found * is_here[..., None].to(found.dtype), self.group)

    def logits(self, x: Tensor, w_VM: Tensor, cap: float | None) -> Tensor:
        here = super().logits(shared(x, self.group), local(w_VM), cap)
        return cast(Tensor, _Joined.apply(here, self.group))  # pyright: ignore

    def losses(
        self, x: Tensor, w_VM: Tensor, targets: Tensor, cap: float | None, split: LossSplit
    ) -> TokenLosses:
        pieces = math.gcd(len(x), split.pieces)
        arguments = (x, local(w_VM), targets, cap, pieces, self.group, torch.is_grad_enabled())
        return TokenLosses(*_SplitLosses.apply(*arguments))  # pyright: ignore
