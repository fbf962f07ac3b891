"""Learning rate as a pure function of the step: nothing to save, nothing to restore."""

import math
from collections.abc import Callable

from glam.config import LinearScheduleConfig, PaperScheduleConfig, ScheduleConfig

Schedule = Callable[[int], float]  # steps finished before this one -> share of the peak rate


def build_schedule(config: ScheduleConfig, num_steps: int) -> Schedule:
    match config:
        case LinearScheduleConfig():
            return linear(num_steps, config.warmup_fraction, config.final_fraction)
        case PaperScheduleConfig():
            return paper(config.hold_steps)
        case _:
            raise AssertionError(f"no schedule for {type(config).__name__}")


def linear(num_steps: int, warmup_fraction: float, final_fraction: float) -> Schedule:
    """Up to 1 over the first share of the steps, then down to `final_fraction` at the last."""
    warmup = round(num_steps * warmup_fraction)

    def factor(step: int) -> float:
        done = step + 1
        if done <= warmup:
            return done / warmup
        return 1 - (1 - final_fraction) * (done - warmup) / (num_steps - warmup)

    return factor


def paper(hold_steps: int) -> Schedule:
    """1 for `hold_steps`, then proportional to 1 / sqrt(t) (section 5.1)."""
    return lambda step: math.sqrt(hold_steps / max(step + 1, hold_steps))
