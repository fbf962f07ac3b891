"""The score of a task, with what it takes to believe it: its error, its interval, what guessing
scores, and the score of each item."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

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
    # `Measured` on the items without overlap with training text; None: the overlap is not known
    clean: dict[str, Any] | None = None


class Measured(NamedTuple):
    """A metric over some items."""

    items: int
    value: float | None
    stderr: float | None
    low: float | None
    high: float | None


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
    found = (
        _mean(value, numbers, clusters) if is_mean else _other(value, error, len(each), clusters)
    )
    return TaskScore(
        **found._asdict(),
        each=tuple(numbers) if is_mean else (),
        clusters=None if clusters is None else tuple(clusters),
        **names,
    )


def with_clean(
    whole: TaskScore,
    dirty: Sequence[bool],
    each: Sequence[Any],
    aggregate: Callable[[Sequence[Any]], float],
) -> TaskScore:
    """The score, and beside it that of the items that are not `dirty`. `each` and `aggregate` are
    lm-eval's, for a metric that is no mean; it has no interval of them."""
    kept = [place for place, is_dirty in enumerate(dirty) if not is_dirty]
    chosen = [each[place] for place in kept]
    clusters = None if whole.clusters is None else [whole.clusters[place] for place in kept]
    if not kept:
        found = Measured(0, None, None, None, None)
    elif whole.each:
        numbers = _numbers(chosen)
        found = _mean(float(np.mean(numbers)), numbers, clusters)
    else:
        found = _other(float(aggregate(chosen)), None, len(chosen), clusters)
    return replace(whole, clean=found._asdict())


def _mean(value: float, numbers: Sequence[float], clusters: Sequence[str] | None) -> Measured:
    error = standard_error(numbers, clusters)
    if clusters is None and set(numbers) <= {0.0, 1.0}:
        interval = wilson(int(sum(numbers)), len(numbers))
        return Measured(len(numbers), value, error, *interval)
    return _other(value, error, len(numbers), clusters)


def _other(
    value: float, error: float | None, items: int, clusters: Sequence[str] | None
) -> Measured:
    """Of a metric whose standard error is known, or is not."""
    independent = items if clusters is None else len(set(clusters))
    if error is None or not math.isfinite(error) or independent < 2:
        return Measured(items, value, error, None, None)
    return Measured(items, value, error, *around(value, error, independent - 1))


def digest(hashes: Sequence[str]) -> str:
    """16 hexadecimal digits of the items' hashes, in their order."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16]


def _numbers(each: Sequence[Any]) -> list[float]:
    """As floats; empty where an item has anything but a number."""
    if not all(isinstance(one, (bool, int, float, np.number)) for one in each):
        return []
    return [float(one) for one in each]
