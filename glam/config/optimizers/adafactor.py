"""Adafactor (Shazeer & Stern 2018, arXiv 1804.04235) as GLaM trained with it (section 5.1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from glam.config._checks import positive, within
from glam.config.optimizers.base import OPTIMIZERS, OptimizerConfig


@OPTIMIZERS.register
@dataclass(kw_only=True)
class AdafactorConfig(OptimizerConfig):
    """The paper's Adafactor: no first moment, factored second moment, update clipping, steps
    relative to the parameter's scale. Computed by `glam.training.optimizers`."""

    engines: ClassVar[tuple[str, ...]] = ("one_device", "fsdp", "xla")
    updates_one_weight: ClassVar[bool] = True

    name: str = "adafactor"
    learning_rate: Any = 0.01
    beta2: float = 0.99  # largest decay of the second moment, which is 1 - step ** -beta2_decay
    beta2_decay: float = 0.8  # exponent of the second moment's decay
    clip_threshold: float = 1.0  # largest root mean square of a parameter's update
    eps_factor: float = 1e-30  # added to the squared gradient
    eps_scale: float = 1e-3  # least scale of a parameter, which its update is relative to

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("optimizer.", self, "beta2_decay", "clip_threshold", "eps_factor", "eps_scale")
        within("optimizer.", self, 0, 0.9999999, "beta2")

    def state_size(self, shape: Sequence[float]) -> float:
        """A row and a column of every matrix; a vector has all of its second moment."""
        *lead, last = shape
        factors = lead.pop() + last if lead else last
        return math.prod(lead) * factors
