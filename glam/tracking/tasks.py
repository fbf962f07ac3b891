"""Scores of tasks on W&B: a table of them, and figures that the list of runs is sorted by."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from glam.runs.evaluations import SavedScore, by_task, column_title, read_suites

if TYPE_CHECKING:
    import wandb

COLUMNS = (
    *("suite", "task", "metric", "column", "num_fewshot", "value", "stderr", "low", "high"),
    *("chance", "items"),
)


def task_figures(run: Path) -> dict[str, dict[str, Any]]:
    """Of each suite that the run was judged on, its tasks as `summary.json` has them."""
    return {saved["suite"]: by_task(saved) for saved in read_suites(run)}


def task_table(run: Path) -> "wandb.Table | None":
    """A row for each metric of each task; None where the run was judged on none."""
    import wandb

    rows: list[Any] = [
        [saved["suite"], *(_told(one)[name] for name in COLUMNS[1:])]
        for saved in read_suites(run)
        for one in saved["scores"]
    ]
    return wandb.Table(columns=[*COLUMNS], data=rows) if rows else None


def _told(one: SavedScore) -> dict[str, Any]:
    return {**cast(dict[str, Any], one), "column": column_title(one["column"])}
