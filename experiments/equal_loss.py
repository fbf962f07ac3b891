"""What two models spend on the same loss: budgets read off their curves, and ratios over seeds."""

import math
from collections.abc import Sequence

import numpy as np

from glam.analysis.paired import interval


def spent(loss: float, budgets: Sequence[float], losses: Sequence[float]) -> float:
    """The budget at which `losses` (one a rising budget) reach `loss`: drawn straight between
    budgets, in their logarithm. Raises ValueError where the curve does not pass it."""
    if not losses[-1] <= loss <= losses[0]:
        raise ValueError(f"{loss:.3f} is not between {losses[0]:.3f} and {losses[-1]:.3f}")
    return float(np.exp(np.interp(-loss, [-x for x in losses], np.log(budgets))))


def geometric(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Their geometric mean and its 95 % t interval; NaN for the interval of one."""
    logs = [math.log(ratio) for ratio in ratios]
    low, high = interval(logs) or (math.nan, math.nan)
    return math.exp(float(np.mean(logs))), math.exp(low), math.exp(high)
