"""Scores of tasks: against chance, and between the runs of a study."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from glam.analysis.paired import CONFIDENCE, StudyRow, holm
from glam.runs.record import mapping
from glam.units import is_number


def above_chance(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Of the tasks of a suite whose chance level is known, Holm's adjusted p-value that the score
    is no better than chance (one-sided)."""
    p_values = {
        name: p
        for name, one in tasks.items()
        if (p := _p_value(one.get("value"), one.get("chance"), one)) is not None
    }
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))


def is_above_chance(p: float | None) -> bool:
    """Whether a task is told from chance, by its adjusted p-value."""
    return p is not None and p < 1 - CONFIDENCE


def _p_value(value: Any, chance: Any, one: Mapping[str, Any]) -> float | None:
    """Of the score test of a share: its variance is that under chance, times the design effect of
    the clusters that its standard error was estimated with (at least 1)."""
    items = one.get("items")
    if not (is_number(value) and is_number(chance) and is_number(items) and items):
        return None
    if chance == 0:
        return float(value <= 0)
    error, plain = one.get("stderr"), value * (1 - value) / items
    design = max(1.0, error**2 / plain) if is_number(error) and plain > 0 else 1.0
    spread = math.sqrt(max(0.0, chance * (1 - chance)) / items * design)
    if not spread:
        return float(value <= chance)
    return math.erfc((value - chance) / spread / math.sqrt(2)) / 2


def scored(cells: Sequence[StudyRow]) -> list[StudyRow]:
    """The runs with scores of tasks in the place of losses, so that whatever pairs losses pairs
    scores. Of the tasks that all judged runs have, judged on equal items and as many
    demonstrations; "mean" is the unweighted mean over them. Empty where there are none."""
    found = {cell.run: _tasks_of(cell) for cell in cells}
    judged = [tasks for tasks in found.values() if tasks]
    names = [
        name
        for name in (judged[0] if judged else ())
        if all(name in tasks and _alike(tasks[name], judged[0][name]) for tasks in judged)
    ]
    if not names:
        return []
    rows: list[StudyRow] = []
    for cell in cells:
        values = {name: found[cell.run][name]["value"] for name in names if found[cell.run]}
        mean = {"mean": sum(values.values()) / len(values)} if values else {}
        rows.append(replace(cell, summary={**cell.summary, "loss": mean | values}))
    return rows


def chances(cells: Sequence[StudyRow]) -> dict[str, float]:
    """What guessing scores, by task; "mean" where it is known of all."""
    tasks = next((tasks for tasks in map(_tasks_of, cells) if tasks), dict[str, dict[str, Any]]())
    known = {name: one["chance"] for name, one in tasks.items() if is_number(one.get("chance"))}
    whole = {"mean": sum(known.values()) / len(known)} if len(known) == len(tasks) and known else {}
    return whole | known


def _tasks_of(cell: StudyRow) -> dict[str, dict[str, Any]]:
    """The tasks that have a score; named by their suite too where there are several."""
    suites = {name: mapping(tasks) for name, tasks in cell.part("tasks").items()}
    return {
        name if len(suites) == 1 else f"{suite}/{name}": mapping(one)
        for suite, tasks in suites.items()
        for name, one in tasks.items()
        if is_number(mapping(one).get("value"))
    }


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs were asked the same."""
    keys = ("metric", "items", "num_fewshot", "items_digest")
    return all(one.get(key) == other.get(key) for key in keys)
