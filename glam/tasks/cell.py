"""A cell of a grid in a process of its own: the configuration comes as it was composed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glam.config import RunConfig, from_mapping
from glam.errors import UserError
from glam.files import read_json, strict
from glam.tasks.run_task import run_task

WRITTEN_AGAIN = "a grid writes it, so run the grid's command again"


@strict()
@dataclass
class _Cell:
    """What `glam.studies.jobs` wrote."""

    config: dict[str, Any]
    overrides: list[str]


def run_cell(file: Path) -> None:
    """Do what `file` says."""
    try:
        cell = read_json(file, _Cell, way_out=WRITTEN_AGAIN)
    except FileNotFoundError:
        raise UserError(f"--cell {file} cannot be read (no such file); {WRITTEN_AGAIN}") from None
    try:
        config = from_mapping(RunConfig, cell.config)
    except UserError as error:
        raise UserError(f"--cell {file} cannot be read ({error}); {WRITTEN_AGAIN}") from None
    run_task(config, cell.overrides)
