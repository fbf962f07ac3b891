"""A cell of a grid in a process of its own: the configuration comes as it was composed."""

import json
from pathlib import Path
from typing import Any

from glam.config import RunConfig, from_mapping
from glam.errors import UserError, first_line
from glam.tasks.run_task import run_task


def run_cell(file: Path) -> None:
    """Do what `file` says: `{config, overrides}`, as `glam.studies.jobs` wrote it."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"--cell {file} cannot be read ({first_line(error)}); a grid writes it, so run the "
            f"grid's command again"
        ) from None
    run_task(from_mapping(RunConfig, content["config"]), content["overrides"])
