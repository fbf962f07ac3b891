"""AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), with gradients clipped by their norm."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from glam.config._checks import positive, within
from glam.config.optimizers.base import AUTO, OPTIMIZERS, OptimizerConfig
from glam.config.optimizers.rate_rule import RateRule


@OPTIMIZERS.register
@dataclass(kw_only=True)
class AdamWConfig(OptimizerConfig):
    """AdamW. Computed by `glam.training.optimizers`."""

    engines: ClassVar[tuple[str, ...]] = ("one_device", "fsdp", "xla")

    name: str = "adamw"
    learning_rate: Any = AUTO  # by the rule below
    beta1: float = 0.9  # decay of the first moment, per step
    beta2: float = 0.95  # decay of the second moment, per step
    eps: float = 1e-8  # added to the root of the second moment
    weight_decay: float = 0.1  # decoupled, times the learning rate; of matrices alone
    clip_norm: float = 1.0  # largest norm of all gradients together
    # the rule of learning_rate=auto; the number that it gives is what makes a run another
    auto: RateRule = field(default_factory=RateRule, metadata={"result": False})

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("optimizer.", self, "eps", "clip_norm")
        within("optimizer.", self, 0, 0.9999999, "beta1", "beta2")
        within("optimizer.", self, 0, 1e6, "weight_decay")

    def state_size(self, shape: Sequence[float]) -> float:
        """Two moments of every number."""
        return 2 * math.prod(shape)

    @property
    def rate_rule(self) -> RateRule:
        return self.auto

    @property
    def max_grad_norm(self) -> float:
        return self.clip_norm
