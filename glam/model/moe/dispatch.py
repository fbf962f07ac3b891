"""The dispatchers, which bring tokens to experts and outputs back. They agree to rounding where
nothing is dropped."""

from collections.abc import Callable
from functools import partial, singledispatch

from torch import Tensor

from glam.config import DispatcherConfig, ModelConfig
from glam.config.dispatchers.built_in import Capacity, Grouped
from glam.model.moe.capacity import capacity
from glam.model.moe.experts import Experts
from glam.model.moe.grouped import grouped
from glam.model.moe.routing import Routing

# (x [B, S, M], routing of its B * S tokens, experts) -> (y [B, S, M], share of choices dropped)
Dispatcher = Callable[[Tensor, Routing, Experts], tuple[Tensor, Tensor]]


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
    return partial(capacity, slots_per_expert=config.slots_per_expert)
