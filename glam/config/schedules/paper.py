"""The paper's schedule (section 5.1)."""

import math
from dataclasses import dataclass

from glam.config._checks import positive
from glam.config.schedules.base import SCHEDULES, ScheduleConfig


@SCHEDULES.register
@dataclass(kw_only=True)
class PaperScheduleConfig(ScheduleConfig):
    """Constant for `hold_steps`, then proportional to 1 / sqrt(step)."""

    name: str = "paper"
    hold_steps: int = 10_000  # [steps] at the peak learning rate

    def __post_init__(self) -> None:
        positive("schedule.", self, "hold_steps")

    def factor(self, step: int, num_steps: int) -> float:
        return math.sqrt(self.hold_steps / max(step + 1, self.hold_steps))
