# torch's tracing ships few types.
# pyright: basic
"""Layer runners of a traced step: each layer after the other, made again in the backward pass where
that is asked for, or blocks of layers as one loop over their stacked weights.

Nothing here computes: the tensors are of the meta device, and what is recorded is a graph.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import (
    disable_proxy_modes_tracing,
    get_proxy_mode,
    make_fx,
    track_tensor_tree,
)
from torch.utils._pytree import tree_map

from glam.config import RunConfig
from glam.engines.xla_layers import stacked_blocks
from glam.model.layer_runner import LayerRunner, run_layers
from glam.model.moe.moe import MoEOutput
from glam.model.rematerialize import called

Body = Callable[..., Sequence[Tensor]]


def layer_runner(config: RunConfig) -> LayerRunner:
    """The layer runner of a configuration, for a step that is traced."""
    if config.hardware.scan:
        return partial(_looped, period=config.model.moe_every)
    return partial(run_layers, call=_again if config.training.rematerialize else called)


@torch.library.custom_op("glam::barrier", mutates_args=())
def barrier(values: Sequence[Tensor]) -> list[Tensor]:
    """Copies that a compiler may not take for the values themselves: what is computed from them is
    computed again, and not before all of them are there."""
    return [value.clone() for value in values]


@barrier.register_fake
def _(values: Sequence[Tensor]) -> list[Tensor]:
    return [torch.empty_like(value) for value in values]


def loop(
    body: fx.GraphModule, carry: Sequence[Tensor], xs: Sequence[Tensor], *, reverse: bool
) -> list[Tensor]:
    """The last carry, and the other results of every turn, stacked. `body(*carry, *one of each xs)`
    returns the next carry and its results; with `reverse` the last turn comes first."""
    results: dict[int, list[Tensor]] = {}
    turns = range(len(xs[0]))
    for turn in reversed(turns) if reverse else turns:
        made = body(*carry, *(x[turn] for x in xs))
        carry, results[turn] = made[: len(carry)], made[len(carry) :]
    return [*carry, *(torch.stack(each) for each in zip(*map(results.get, turns), strict=True))]


def _recorded(body: Body, carry: Sequence[Tensor], xs: Sequence[Tensor], *, reverse: bool) -> Any:
    """`loop` as one node of the graph that is being traced."""
    mode = get_proxy_mode()
    assert mode is not None
    tracer = mode.tracer
    with disable_proxy_modes_tracing():
        graph = make_fx(body)(*carry, *(x[0] for x in xs))
        made = graph(*carry, *(x[0] for x in xs))
        last, rest = made[: len(carry)], made[len(carry) :]
        turns = len(xs[0])
        results = [*last, *(each.new_empty(turns, *each.shape) for each in rest)]
    name = f"body_{len(list(tracer.root.children()))}"
    tracer.root.register_module(name, graph)
    arguments = tree_map(tracer.unwrap_proxy, (graph, list(carry), list(xs)))
    node = tracer.create_proxy("call_function", loop, arguments, {"reverse": reverse}, name="loop")
    return track_tensor_tree(results, node, constant=None, tracer=tracer)


class _Loop(torch.autograd.Function):
    """`(f, x, segments, stacked weights) -> (y, rows)`: `f(x, segments, weights)` returns the next
    x and a row. Every turn is made again in the loop of the backward pass, from its x alone."""

    @staticmethod
    def forward(ctx: Any, f: Body, x: Tensor, segments: Tensor, *stacked: Tensor) -> Any:
        def turn(x: Tensor, segments: Tensor, *given: Tensor) -> list[Tensor]:
            with torch.no_grad():
                y, row = f(x, segments, *given)
            return [y, segments.clone(), x.clone(), row]

        y, _, xs, rows = _recorded(turn, [x, segments], stacked, reverse=False)
        ctx.f = f
        ctx.save_for_backward(segments, xs, *stacked)
        return y, rows

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        segments, xs, *stacked = ctx.saved_tensors
        d_y, d_rows = grads

        def turn(d_y: Tensor, segments: Tensor, x: Tensor, d_row: Tensor, *given: Tensor) -> Any:
            d_x, _, *d_given = _gradients(ctx.f, [x, segments, *given], [d_y, d_row])
            return [d_x, segments.clone(), *d_given]

        d_x, _, *d_stacked = _recorded(turn, [d_y, segments], [xs, d_rows, *stacked], reverse=True)
        return None, d_x, None, *d_stacked


def _gradients(f: Body, given: Sequence[Tensor], grads: Sequence[Tensor]) -> list[Tensor | None]:
    """Gradients of what `f` is given, from those of its results, which it computes anew."""
    with torch.enable_grad():
        given = [each.detach().requires_grad_(each.is_floating_point()) for each in given]
        pairs = zip(f(*given), grads, strict=True)
        made, grads = zip(*(pair for pair in pairs if pair[0].requires_grad), strict=True)
        wanted = [each for each in given if each.requires_grad]
        found = iter(torch.autograd.grad(made, wanted, grads, allow_unused=True))
        return [next(found) if each.requires_grad else None for each in given]


def _looped(
    layers: nn.ModuleList, x: Tensor, segments: Tensor | None, period: int
) -> tuple[Tensor, list[MoEOutput]]:
    body, stacked = stacked_blocks(layers, period, x.dtype)

    def block(x: Tensor, segments: Tensor, *given: Tensor) -> Sequence[Tensor]:
        weights = dict(zip(stacked, given, strict=True))
        return torch.func.functional_call(body, weights, (x, segments))

    assert segments is not None
    y, rows = _Loop.apply(block, x, segments, *stacked.values())  # pyright: ignore
    return y, [MoEOutput(x.new_empty(0), row[0], row[1:-1], row[-1]) for row in rows.unbind()]


class _Again(torch.autograd.Function):
    """`(f, inputs) -> f(*inputs)`, of which the inputs alone are kept."""

    @staticmethod
    def forward(ctx: Any, f: Body, *given: Tensor) -> Any:
        ctx.f = f
        ctx.save_for_backward(*given)
        return tuple(f(*given))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        # A compiler would merge the second computation with the first.
        given = ctx.saved_tensors
        apart = barrier([*given, *grads])
        return None, *_gradients(ctx.f, apart[: len(given)], apart[len(given) :])


def _again(layer: nn.Module, x: Tensor, mask: Tensor) -> tuple[Tensor, MoEOutput | None]:
    """A layer whose activations are computed again in the backward pass."""
    weights = dict(layer.named_parameters())

    def run(x: Tensor, mask: Tensor, *given: Tensor) -> Sequence[Tensor]:
        named = dict(zip(weights, given, strict=True))
        y, made = torch.func.functional_call(layer, named, (x, mask))
        return [y] if made is None else [y, *made[1:]]

    y, *made = _Again.apply(run, x, mask, *weights.values())  # pyright: ignore
    return y, MoEOutput(x.new_empty(0), *made) if made else None
