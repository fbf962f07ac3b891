"""Ways from tokens to experts and back, by name. They agree to rounding when nothing is dropped."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from glam.config import ModelConfig
from glam.model.moe.capacity import capacity
from glam.model.moe.experts import Experts
from glam.model.moe.grouped import grouped
from glam.model.moe.routing import Dispatched, Routing

Dispatcher = Callable[[Tensor, Routing, Experts], Dispatched]


def dispatcher(config: ModelConfig) -> Dispatcher:
    """The function `(x [B, S, M], routing of its B * S tokens, experts) -> Dispatched`."""
    if config.dispatcher == "grouped":
        return grouped
    return partial(capacity, slots_per_expert=config.slots_per_expert)
