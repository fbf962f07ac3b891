"""How the training text overlaps with evaluation sets, as a section of a run's page."""

from typing import Any

from glam.units import percent, whole

TITLES = ["set", "task", "n-gram", "items", "dirty", "share", "but common", "n-grams found"]


def section(found: dict[str, Any]) -> dict[str, Any]:
    """A row of text for each suite and task; empty where nothing was looked for."""
    suites: dict[str, dict[str, dict[str, Any]]] = found.get("suites") or {}
    rows = [
        _row(suite if place == 0 else "", task, numbers)
        for suite, tasks in suites.items()
        for place, (task, numbers) in enumerate(tasks.items())
    ]
    return {"titles": TITLES, "rows": rows, "removed": found.get("removed")} if rows else {}


def _row(suite: str, task: str, numbers: dict[str, Any]) -> list[str]:
    only_common = numbers["dirty"] - numbers["rare"]
    return [
        suite,
        task,
        whole(numbers["n"]),
        whole(numbers["items"]),
        whole(numbers["dirty"]),
        percent(numbers["share"]),
        whole(only_common),
        percent(numbers["ngrams_found"]),
    ]
