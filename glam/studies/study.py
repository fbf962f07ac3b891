"""A grid as a study: what its line is called, and which of its cells came to what."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glam.config import RunConfig
from glam.machine.resources import Resources
from glam.runs.folder import RunFolder
from glam.runs.identity import DETERMINES_THE_RESULT
from glam.runs.study_folder import StudyFolder, row


@dataclass(kw_only=True)
class Point:
    """One point of a grid, and what the swept keys are in it."""

    values: dict[str, Any]
    config: RunConfig

    @property
    def name(self) -> str:
        """What is swept, in words: `num_experts=8, seed=1`."""
        return ", ".join(f"{_last(key)}={value}" for key, value in self.values.items())


@dataclass(kw_only=True)
class Cell(Point):
    """Its run, and what was typed for it."""

    overrides: list[str]
    resources: Resources
    run: RunFolder
    seconds: float | None = None  # of training, which its tokens are meant to take

    @property
    def is_done(self) -> bool:
        return self.run.summary() is not None


class Study:
    """A named list of cells. An ad-hoc study is named after what it sweeps, an experiment by its
    file, both also after what else is typed: a longer list extends a study, another budget starts
    another."""

    def __init__(self, name: str, cells: list[Cell], swept: Sequence[str]) -> None:
        self.name, self.cells, self.swept = name, cells, list(swept)
        self.folder = StudyFolder(cells[0].config.runs_path / "studies" / name)
        self.throughputs: dict[
            str, float
        ] = {}  # tokens per second that a budget of seconds went by

    @classmethod
    def of(cls, cells: list[Cell], swept: Sequence[str]) -> "Study":
        return cls(_name(cells, swept), cells, swept)

    def line(self, cell: Cell) -> list[str]:
        """The overrides of the cell's own process: what one would type to run it alone."""
        words = [f"study.name={_quoted(self.name)}", f"study.cell={_quoted(cell.name)}"]
        return [*cell.overrides, *words]

    def record(self) -> None:
        """Remember these cells beside those that other lines brought into the study."""
        cells = {cell.run.path.name: cell.values for cell in self.cells}
        resources = self.cells[0].resources
        machine = {key: getattr(resources, key) for key in ("device", "precision", "threads")}
        machine["paces"] = self.throughputs
        self.folder.record(self.swept, self.cells[0].config.study, cells, machine)

    def begun_with(self) -> dict[str, Any] | None:
        """Device, precision, threads and paces of the line before, wherever it was typed."""
        return self.folder.machine

    def failures(self) -> list[str]:
        """Those cells of this line that failed, and why."""
        found = [(cell.name, row(cell.run.path, cell.values)) for cell in self.cells]
        return [
            f"{name} ({one['error'] or one['status']})"
            for name, one in found
            if one["status"] not in ("done", "diverged")
        ]


def _name(cells: list[Cell], swept: Sequence[str]) -> str:
    """As typed; else the experiment's name or the swept keys, and a hash of what all cells share
    by the line."""
    name = cells[0].config.study.name
    typed = {override.lstrip("+").split("=")[0]: override for override in cells[0].overrides}
    if name is not None and "study.name" in typed:
        return name
    if name is None and not swept:
        return cells[0].run.path.name
    fixed = sorted(
        override
        for key, override in typed.items()
        if key not in swept and key.replace("/", ".").split(".")[0] in DETERMINES_THE_RESULT
    )
    stem = name or "+".join(_last(key) for key in swept)
    if not fixed:
        return stem
    return f"{stem}-{hashlib.sha256(' '.join(fixed).encode()).hexdigest()[:6]}"


def _last(key: str) -> str:
    return key.replace("/", ".").rsplit(".", 1)[-1]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
