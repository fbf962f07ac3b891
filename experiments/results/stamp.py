"""`trained.json`: what the tables of a study were trained by, where their rows do not say it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.results.grids import protocol
from experiments.results.machines import machine_here
from experiments.tables import refuse
from glam.config import RunConfig
from glam.machine.resources import resolve
from glam.reporting.study_table import MACHINE
from glam.runs.folder import write_atomically
from glam.studies.study import TrainingCell
from glam.tasks.summary import git_revision

NAME = "trained.json"


def stamp(folder: Path, cells: Sequence[TrainingCell], *, done: bool) -> None:
    content = {"runs": protocol(cells), **_here(), "commit": git_revision(), "done": done}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / NAME, json.dumps(content, indent=1) + "\n")


def begun_here(folder: Path, cells: Sequence[TrainingCell]) -> bool:
    """Whether the study was begun on such a machine, by today's configuration."""
    found = _read(folder)
    wanted = {"runs": protocol(cells), **_here()}
    return all(found.get(name) == value for name, value in wanted.items())


def why_not(folder: Path, cells: Sequence[TrainingCell]) -> str:
    """Why the tables in the folder are not those of the cells; empty where they are."""
    found = _read(folder)
    if not found:
        return f"no {NAME} says what its tables were trained by"
    if found.get("runs") != protocol(cells):
        return "its tables are of another grid"
    return "" if found.get("done") is True else "it was begun and not ended"


def _here() -> dict[str, str]:
    here = machine_here(resolve(RunConfig(), one_of_many=True))
    return dict(zip(MACHINE, here, strict=True))


def _read(folder: Path) -> dict[str, Any]:
    file = folder / NAME
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, ValueError) as error:
        return refuse(f"{file} cannot be read ({error}); put it back, or remove it")
    return found if isinstance(found, dict) else refuse(f"{file} holds no mapping; remove it")
