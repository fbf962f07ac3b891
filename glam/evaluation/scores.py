"""The score of a task, with what it takes to believe it: its error, its interval, what guessing
scores, and the score of each item."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import (  # pyright: ignore[reportMissingTypeStubs]
    stdtrit,  # pyright: ignore[reportUnknownVariableType]
)
from scipy.stats import binomtest  # pyright: ignore[reportMissingTypeStubs]

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """A metric of a task at a number of demonstrations. `low` and `high` bound its 95 % interval:
    Wilson's where items are right or wrong, Student's t otherwise, over clusters where items are
    not independent."""

    task: str
    metric: str
    value: float
    stderr: float | None
    low: float | None
    high: float | None
    chance: float | None
    items: int
    num_fewshot: int
    column: str  # "8-shot" where evaluation.num_fewshot asks for columns; else ""
    is_first: bool  # whether the metric stands for the task
    each: tuple[float, ...] = field(repr=False)  # of every item; empty where an item has no number
    clusters: tuple[str, ...] | None = field(repr=False)  # what each item belongs to
    items_digest: str  # the same for the same items in the same order


def score(
    *,
    value: float,
    stderr: Any,
    each: Sequence[Any],
    clusters: Sequence[str] | None,
    **names: Any,
) -> TaskScore:
    """A score with its interval. `stderr` is lm-eval's, "N/A" where it knows none; `each` the
    values of the items, which are numbers where `value` is their mean."""
    error = float(stderr) if isinstance(stderr, (int, float)) else None
    numbers = _numbers(each)
    is_mean = bool(numbers) and math.isclose(float(np.mean(numbers)), value, abs_tol=1e-9)
    if is_mean and clusters is not None:
        error = _clustered_error(numbers, clusters)
        low, high = _around(value, error, len(set(clusters)))
    elif is_mean and set(numbers) <= {0.0, 1.0}:
        low, high = wilson(int(sum(numbers)), len(numbers))
    else:
        low, high = _around(value, error, len(each))
    return TaskScore(
        value=value,
        stderr=error,
        low=low,
        high=high,
        items=len(each),
        each=tuple(numbers) if is_mean else (),
        clusters=None if clusters is None else tuple(clusters),
        **names,
    )


def wilson(right: int, items: int) -> tuple[float, float]:
    """The 95 % interval of a share (E. B. Wilson, 1927)."""
    found = binomtest(right, items).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def digest(hashes: Sequence[str]) -> str:
    """16 hexadecimal digits of the items' hashes, in their order."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16]


def _numbers(each: Sequence[Any]) -> list[float]:
    """As floats; empty where an item has anything but a number."""
    if not all(isinstance(one, (bool, int, float, np.number)) for one in each):
        return []
    return [float(one) for one in each]


def _clustered_error(each: Sequence[float], clusters: Sequence[str]) -> float | None:
    """Standard error of the mean of items that come in clusters: each cluster's deviations are
    summed before they are squared. None for a single cluster."""
    names = sorted(set(clusters))
    if len(names) < 2:
        return None
    index = np.searchsorted(np.array(names), np.array(clusters))
    sums = np.bincount(index, np.array(each) - np.mean(each))
    scale = len(names) / (len(names) - 1)  # as a variance of few values is estimated
    return float(math.sqrt(scale * (sums**2).sum()) / len(each))


def _around(value: float, error: float | None, count: int) -> tuple[float | None, float | None]:
    """Student's t interval with `count - 1` degrees of freedom."""
    if error is None or count < 2 or not math.isfinite(error):
        return None, None
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * error
    return value - half, value + half
