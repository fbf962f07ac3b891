"""Intervals of shares and means: Wilson's, and Student's t, also for values in clusters."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import (  # pyright: ignore[reportMissingTypeStubs]
    stdtr,  # pyright: ignore[reportUnknownVariableType]
    stdtrit,  # pyright: ignore[reportUnknownVariableType]
)

CONFIDENCE = 0.95
Interval = tuple[float, float]


def wilson(right: int, items: int, confidence: float = CONFIDENCE) -> Interval:
    """Of the share `right / items` (E. B. Wilson, 1927)."""
    from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

    test: Any = stats.binomtest(right, items)  # pyright: ignore[reportUnknownMemberType]
    found = test.proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def standard_error(values: Sequence[float], clusters: Sequence[str] | None = None) -> float | None:
    """Of the mean. Values of the same cluster are not independent: their deviations are summed
    before they are squared. None for fewer than two values or clusters."""
    away = np.asarray(values) - np.mean(values)
    if clusters is not None:
        _, place = np.unique(np.asarray(clusters), return_inverse=True)
        away = np.bincount(place, away)
    if len(away) < 2:
        return None
    scale = len(away) / (len(away) - 1)  # as a variance of few values is estimated
    return math.sqrt(scale * float(away @ away)) / len(values)


def t_quantile(probability: float, freedom: int) -> float:
    """Of Student's t with so many degrees of freedom."""
    return float(stdtrit(freedom, probability))


def t_p_value(mean: float, error: float, freedom: int) -> float:
    """Two-sided, of a mean against zero."""
    if error == 0:
        return 0.0 if mean else 1.0
    return 2 * float(stdtr(freedom, -abs(mean) / error))


def around(value: float, error: float, freedom: int, confidence: float = CONFIDENCE) -> Interval:
    """Student's t interval of a mean with that standard error."""
    half = t_quantile((1 + confidence) / 2, freedom) * error
    return value - half, value + half
