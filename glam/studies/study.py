"""A grid as a study: what it is called, and what became of its cells."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from glam.config import RunConfig
from glam.machine.resources import Resources
from glam.runs.folder import RunFolder
from glam.runs.identity import DETERMINES_THE_RESULT
from glam.runs.initial import with_initial
from glam.runs.naming import folder_name
from glam.runs.study_folder import StudyFolder, row


@dataclass(kw_only=True)
class Cell:
    """A cell of a grid: its configuration, the values of the swept keys in it, and the overrides
    that one would type to get it."""

    values: dict[str, Any]
    config: RunConfig
    overrides: list[str]

    @property
    def name(self) -> str:
        """The swept keys and their values: `num_experts=8, seed=1`."""
        return ", ".join(f"{_last(key)}={value}" for key, value in self.values.items())

    def with_hardware(self, **chosen: Any) -> Self:
        """The same cell with these keys of `hardware` set."""
        words = [f"hardware.{key}={value}" for key, value in chosen.items()]
        hardware = replace(self.config.hardware, **chosen)
        config = replace(self.config, hardware=hardware)
        return replace(self, config=config, overrides=[*self.overrides, *words])


@dataclass(kw_only=True)
class TrainingCell(Cell):
    """A cell that trains: its resources and its run folder."""

    resources: Resources
    run: RunFolder
    seconds: float | None = None  # of training, which its tokens were chosen for

    @classmethod
    def of(cls, cell: Cell, resources: Resources) -> "TrainingCell":
        cell = replace(cell, config=with_initial(cell.config))
        run = RunFolder.of(cell.config, resources)
        return cls(**vars(cell), resources=resources, run=run)

    @property
    def is_done(self) -> bool:
        return self.run.summary() is not None

    def within(self, study: str) -> Self:
        """The cell as a part of the study of that name."""
        words = [f"study.name={_quoted(study)}", f"study.cell={_quoted(self.name)}"]
        listed = replace(self.config.study, name=study, cell=self.name)
        config = replace(self.config, study=listed)
        return replace(self, config=config, overrides=[*self.overrides, *words])

    def as_resolved_here(self) -> Self:
        """With the threads, precision and device that this machine chose: the machine that trains
        the cell may choose otherwise, which would be another run."""
        chosen: dict[str, Any] = {
            "threads": self.resources.threads,
            "precision": self.resources.precision,
        }
        if self.config.hardware.device == "auto":
            chosen["device"] = self.resources.device.replace("cuda", "gpu")
        return self.with_hardware(**chosen)


class Study:
    """A named list of cells. An ad-hoc study is named after what it sweeps, an experiment by its
    file, both also after what else is typed: a longer list extends a study, another budget starts
    another."""

    def __init__(self, name: str, cells: list[TrainingCell], swept: Sequence[str]) -> None:
        self.name, self.cells, self.swept = name, cells, list(swept)
        self.folder = StudyFolder(cells[0].config.runs_path / "studies" / name)
        # Tokens per second that a budget of seconds was turned into tokens by.
        self.throughputs: dict[str, float] = {}

    @classmethod
    def of(cls, cells: list[TrainingCell], swept: Sequence[str]) -> "Study":
        return cls(_name(cells, swept), cells, swept)

    def record(self) -> None:
        """Add these cells to those that the study lists."""
        cells = {cell.run.path.name: cell.values for cell in self.cells}
        resources = self.cells[0].resources
        machine = {key: getattr(resources, key) for key in ("device", "precision", "threads")}
        machine["throughputs"] = self.throughputs
        self.folder.record(self.swept, self.cells[0].config.study, cells, machine)

    def known_throughputs(self) -> dict[str, float]:
        """Tokens per second by workload, as the study was started with."""
        begun = self.begun_with() or {}
        return dict(begun.get("throughputs", begun.get("paces", {})))  # "paces": before 0.2

    def begun_with(self) -> dict[str, Any] | None:
        """Device, precision, threads and throughputs that the study was started with, wherever it
        was; None for a new study."""
        return self.folder.machine

    def failures(self) -> list[str]:
        """The cells that failed, each with its reason."""
        found = [(cell.name, row(cell.run.path, cell.values)) for cell in self.cells]
        return [
            f"{name} ({one['error'] or one['status']})"
            for name, one in found
            if one["status"] not in ("done", "diverged")
        ]


def _name(cells: list[TrainingCell], swept: Sequence[str]) -> str:
    """As typed; else the experiment's name or the swept keys, and a hash of the other overrides
    that determine results."""
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
    stem = name or folder_name("+".join(_last(key) for key in swept))
    if not fixed:
        return stem
    return f"{stem}-{hashlib.sha256(' '.join(fixed).encode()).hexdigest()[:6]}"


def _last(key: str) -> str:
    return key.replace("/", ".").rsplit(".", 1)[-1]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
