"""The dispatchers, which bring tokens to experts and outputs back. They agree to rounding where
nothing is dropped."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial, singledispatch

from torch import Tensor

from glam.config import DispatcherConfig, ModelConfig
from glam.config.dispatchers.built_in import Capacity, Grouped
from glam.model.compiled import is_compiled
from glam.model.moe.capacity import Priority, by_gate, by_position, capacity
from glam.model.moe.experts import Experts
from glam.model.moe.grouped import grouped
from glam.model.moe.routing import Routing

# (x [B, S, M], routing of its B * S tokens, experts) -> (y [B, S, M], share of choices dropped)
Dispatcher = Callable[[Tensor, Routing, Experts], tuple[Tensor, Tensor]]

PRIORITIES: dict[str, Priority] = {"position": by_position, "gate": by_gate}


def dispatcher(config: ModelConfig) -> Dispatcher:
    """The dispatcher that `config.dispatcher` names."""
    return _dispatcher(config.dispatcher_config, config)


@singledispatch
def _dispatcher(kind: DispatcherConfig, config: ModelConfig) -> Dispatcher:
    return partial(kind, model=config)


@_dispatcher.register
def _(kind: Grouped, config: ModelConfig) -> Dispatcher:
    return grouped


@_dispatcher.register
def _(kind: Capacity, config: ModelConfig) -> Dispatcher:
    priority = PRIORITIES[config.priority]
    return partial(capacity, slots_per_expert=config.slots_per_expert, priority=priority)


def in_evaluation(
    config: ModelConfig, made: Callable[[ModelConfig], Dispatcher]
) -> Dispatcher | None:
    """The dispatcher outside training, of those that `made` makes; None: the one of training. With
    one that may not drop there `grouped` stands in and, where shapes have to be static, `capacity`
    with a slot for every token."""
    if config.dispatcher != Capacity.name or config.drops_in_evaluation:
        return None
    everyone = config.num_experts / config.top_k
    ragged = made(replace(config, dispatcher=Grouped.name))
    static = made(replace(config, priority="position", capacity_factor=everyone))

    def dispatch(x: Tensor, routing: Routing, experts: Experts) -> tuple[Tensor, Tensor]:
        return (static if is_compiled(x.device) else ragged)(x, routing, experts)

    return dispatch
