"""The score of a task, with what it takes to believe it: its error, its interval, what guessing
scores, and the score of each item."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from glam.intervals import around, standard_error, wilson


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
    published: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
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
    numbers = _numbers(each)
    is_mean = bool(numbers) and math.isclose(float(np.mean(numbers)), value, abs_tol=1e-9)
    error = float(stderr) if isinstance(stderr, (int, float)) else None
    independent = len(each) if clusters is None else len(set(clusters))
    if is_mean:
        error = standard_error(numbers, clusters)
    low, high = None, None
    if is_mean and clusters is None and set(numbers) <= {0.0, 1.0}:
        low, high = wilson(int(sum(numbers)), len(numbers))
    elif error is not None and math.isfinite(error) and independent > 1:
        low, high = around(value, error, independent - 1)
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


def digest(hashes: Sequence[str]) -> str:
    """16 hexadecimal digits of the items' hashes, in their order."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16]


def _numbers(each: Sequence[Any]) -> list[float]:
    """As floats; empty where an item has anything but a number."""
    if not all(isinstance(one, (bool, int, float, np.number)) for one in each):
        return []
    return [float(one) for one in each]
