"""A cell of a grid in a process of its own: the configuration comes as it was composed."""

import json
from pathlib import Path
from typing import Any

from glam.config import RunConfig, from_mapping
from glam.tasks.run_task import run_task


def run_cell(file: Path) -> None:
    """Do what `file` says: `{config, overrides}`, as `glam.studies.jobs` wrote it."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    run_task(from_mapping(RunConfig, content["config"]), content["overrides"])
