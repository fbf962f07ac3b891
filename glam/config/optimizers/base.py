"""What an optimizer declares, and the registry of optimizers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from glam.config._checks import positive
from glam.config.optimizers.rate_rule import RateRule
from glam.config.registry import Registry
from glam.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


AUTO = "auto"


@dataclass(kw_only=True)
class OptimizerConfig(ABC):
    """Keys of an optimizer (`optimizer.…`), and its declarations."""

    # Engines that train with it; others refuse it.
    # "fsdp": a step works on DTensors, number by number, and makes its state like the weight.
    # "xla": a step reads no number back (no `.item()`), `lr` is a tensor, and `first_state` names
    # all state: XLA takes state as inputs of every step's graph, the first too.
    engines: ClassVar[tuple[str, ...]] = ("one_device",)

    # Whether a weight can be updated without the gradients of the others. If so, the optimizer has
    # a method `update(parameter, grad, learning_rate)`, and `training.update_in_backward` works.
    updates_one_weight: ClassVar[bool] = False

    name: str  # which optimizer: a file of conf/optimizer
    learning_rate: Any  # at the peak of the schedule: a number, or auto for the rule

    def __post_init__(self) -> None:
        if isinstance(self.learning_rate, float | int) and self.learning_rate is not True:
            positive("optimizer.", self, "learning_rate")
        elif self.learning_rate != AUTO:
            raise UserError(
                f"optimizer.learning_rate={self.learning_rate} is no number; give one, or auto"
            )
        elif self.rate_rule is None:
            raise UserError(
                f"optimizer.learning_rate=auto has no rule for optimizer={self.name}; give a "
                f"number, or take optimizer=adamw"
            )

    @property
    def rate_rule(self) -> RateRule | None:
        """What `learning_rate=auto` follows; None where there is none."""
        return None

    @property
    def rate(self) -> float:
        """`learning_rate`, which is a number in `RunConfig.optimizer_as_built`."""
        assert self.learning_rate != AUTO, "take RunConfig.optimizer_as_built"
        return float(self.learning_rate)

    @abstractmethod
    def state_size(self, shape: Sequence[float]) -> float:
        """How many float32 numbers the optimizer keeps for a weight of `shape`. Plans count memory
        and checkpoints by it; sides are fractions where a mesh does not divide them."""

    @property
    def max_grad_norm(self) -> float:
        """Gradients with a larger norm (of all together) are scaled down to it before the step."""
        return math.inf

    def build(self, groups: list[dict[str, Any]]) -> "torch.optim.Optimizer":
        """The torch optimizer over parameter groups: one whose weights decay, and one with
        `weight_decay=0` (norm scales and biases). Import torch inside."""
        raise NotImplementedError(f"{type(self).__name__} has no build()")

    def first_state(self, shape: Sequence[int]) -> "dict[str, Tensor]":
        """State of a weight before its first step, whole and on the CPU. Empty: the first step
        makes it."""
        return {}


OPTIMIZERS: Registry[OptimizerConfig] = Registry("optimizer")
