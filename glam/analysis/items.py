"""Two models compared item by item: both answered the same questions, so what they have in common
(an item that is hard for every model) drops out of the difference.

Every task is tested, so some differences look large by chance: the false discovery rate is held at
5 % (Y. Benjamini and Y. Hochberg, 1995).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from glam.intervals import CONFIDENCE, Interval, around, standard_error, t_p_value, t_quantile
from glam.runs.evaluations import SavedItems, SavedSuiteItems

POWER = 0.8  # of the smallest effect: how often a test would have shown it
Key = tuple[str, str]  # task, column


@dataclass(frozen=True, kw_only=True)
class ItemDifference:
    """The score of one model minus that of another on the items of a task, or of the means of
    several models each."""

    task: str
    metric: str
    column: str
    items: int
    first: float
    second: float
    mean: float  # second minus first
    interval: Interval | None  # 95 %, of this difference alone
    # the smallest true difference that so many items would have shown in four of five cases
    smallest: float | None
    p: float
    adjusted: float  # p by Benjamini and Hochberg's procedure over all that are compared

    @property
    def is_significant(self) -> bool:
        return self.adjusted < 1 - CONFIDENCE


Models = Sequence[SavedSuiteItems]  # one, or as many seeds of the same


def item_differences(pairs: Mapping[str, tuple[Models, Models]]) -> dict[str, list[ItemDifference]]:
    """By the name of a pair: of each task's first metric, that of the models `second` minus that of
    the models `first`. Tasks that were not all judged on the same items are left out. All
    differences, of all pairs, are tested together."""
    found = {
        name: [
            _difference(of_first[key], of_second[key])
            for key in of_first
            if _same_items([*of_first[key], *of_second.get(key, [])], len(first) + len(second))
        ]
        for name, (first, second) in pairs.items()
        for of_first, of_second in [(_by_key(first), _by_key(second))]
    }
    p_values = [one.p for differences in found.values() for one in differences]
    adjusted = iter(_adjusted(p_values))
    return {
        name: [replace(one, adjusted=next(adjusted)) for one in differences]
        for name, differences in found.items()
    }


def _adjusted(p_values: list[float]) -> list[float]:
    if not p_values:
        return []
    from scipy import stats  # pyright: ignore[reportMissingTypeStubs] - a second, for few studies

    control: Any = cast(Any, stats).false_discovery_control
    return [float(p) for p in control(p_values, method="bh")]


def _by_key(suites: Models) -> Mapping[Key, list[SavedItems]]:
    """The first metric of every task and column, of all models."""
    found: dict[Key, list[SavedItems]] = {}
    for suite in suites:
        of_one: dict[Key, SavedItems] = {}
        for task in suite["tasks"]:
            of_one.setdefault((task["task"], task["column"]), task)
        for key, task in of_one.items():
            found.setdefault(key, []).append(task)
    return found


def _same_items(tasks: Sequence[SavedItems], models: int) -> bool:
    same = {(task["metric"], task["digest"], len(task["each"])) for task in tasks}
    return len(tasks) == models and len(same) == 1


def _difference(first: Sequence[SavedItems], second: Sequence[SavedItems]) -> ItemDifference:
    before, after = (
        np.array([one["each"] for one in tasks], np.float64).mean(0) for tasks in (first, second)
    )
    each, task = [float(one) for one in after - before], first[0]
    clusters = task["clusters"]
    freedom = len(each if clusters is None else set(clusters)) - 1
    mean, error = float(np.mean(each)), standard_error(each, clusters)
    found = ItemDifference(
        task=task["task"],
        metric=task["metric"],
        column=task["column"],
        items=len(each),
        first=float(before.mean()),
        second=float(after.mean()),
        mean=mean,
        interval=None,
        smallest=None,
        p=1.0,
        adjusted=1.0,
    )
    if error is None:
        return found
    return replace(
        found,
        interval=around(mean, error, freedom),
        smallest=smallest_effect(error, len(each), freedom),
        p=t_p_value(mean, error, freedom),
    )


def smallest_effect(error: float, items: int, freedom: int) -> float:
    """The true difference that a two-sided test at 5 % would find in 80 % of the cases, with that
    standard error. Where no item differs, the error is that of a single one that does."""
    return (error or 1 / items) * (
        t_quantile((1 + CONFIDENCE) / 2, freedom) + t_quantile(POWER, freedom)
    )
