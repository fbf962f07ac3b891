"""Linear warm-up, then linear decay over the whole run."""

from dataclasses import dataclass

from glam.config._checks import within
from glam.config.schedules.base import SCHEDULES, ScheduleConfig


@SCHEDULES.register
@dataclass(kw_only=True)
class LinearScheduleConfig(ScheduleConfig):
    """Linear warm-up to the peak, then linear decay to the last step."""

    name: str = "linear"
    warmup_fraction: float = 0.05  # [share] of the steps, before the peak
    final_fraction: float = 0.05  # [share] of the peak learning rate, at the last step

    def __post_init__(self) -> None:
        within("schedule.", self, 0, 1, "warmup_fraction", "final_fraction")

    def factor(self, step: int, num_steps: int) -> float:
        warmup, done = round(num_steps * self.warmup_fraction), step + 1
        if done <= warmup:
            return done / warmup
        return 1 - (1 - self.final_fraction) * (done - warmup) / (num_steps - warmup)
