"""A study owns no runs, it lists them: `runs/studies/<name>/`."""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from glam.config import RunConfig
from glam.identity import DETERMINES_THE_RESULT
from glam.runs import RunFolder, write_atomically


def say(line: str) -> None:
    """A word to the person at the terminal, beside what a script would read."""
    print(line, file=sys.stderr)


@dataclass(kw_only=True)
class Cell:
    """One run of a grid: what was typed, and what the swept keys are in it."""

    overrides: list[str]
    values: dict[str, Any]
    config: RunConfig
    run: RunFolder

    @property
    def is_done(self) -> bool:
        return self.run.summary() is not None

    @property
    def name(self) -> str:
        """What is swept, in words: `num_experts=8, seed=1`."""
        return ", ".join(f"{_last(key)}={value}" for key, value in self.values.items())


class Study:
    """A named list of cells. An ad-hoc study is named after what it sweeps, an experiment by its
    file, both also after what else is typed: a longer list extends a study, another budget starts
    another."""

    def __init__(self, name: str, cells: list[Cell], swept: Sequence[str]) -> None:
        self.name, self.cells, self.swept = name, cells, list(swept)
        self.path: Path = cells[0].config.runs_path / "studies" / name

    @classmethod
    def of(cls, cells: list[Cell], swept: Sequence[str]) -> "Study":
        return cls(_name(cells, swept), cells, swept)

    def line(self, cell: Cell) -> list[str]:
        """The overrides of the cell's own process: what one would type to run it alone."""
        words = [f"study.name={_quoted(self.name)}", f"study.cell={_quoted(cell.name)}"]
        return [*cell.overrides, *words]

    def record(self) -> None:
        """Remember these cells beside those that other lines brought into the study."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock():
            known = {entry["run"]: entry for entry in self._known()}
            for cell in self.cells:
                known[cell.run.path.name] = {"run": cell.run.path.name, "values": cell.values}
            text = json.dumps({"swept": self.swept, "cells": list(known.values())}, indent=1)
            write_atomically(self.path / "cells.json", text + "\n")

    def _lock(self) -> FileLock:
        """Two people may start the same study: one list and one page at a time."""
        return FileLock(self.path / ".lock")

    def _known(self) -> list[dict[str, Any]]:
        try:
            return json.loads((self.path / "cells.json").read_text(encoding="utf-8"))["cells"]
        except (OSError, ValueError, KeyError):
            return []

    def rows(self) -> list[dict[str, Any]]:
        """One row a cell, read from the run folders; sorted by what is swept."""
        runs = self.path.parent.parent
        known = {entry["run"]: entry["values"] for entry in self._known()}
        known |= {cell.run.path.name: cell.values for cell in self.cells}
        rows = [row(runs / name, values) for name, values in known.items()]
        return sorted(rows, key=lambda r: [_sortable(r["values"].get(key)) for key in self.swept])

    def write(self) -> None:
        """study.csv, study.html and the figures."""
        from glam.reporting import study_report

        with self._lock():
            study_report(self.path, self.rows(), self.swept, self.cells[0].config.study)
        say(f"study: {self.path / 'study.html'}")

    def failures(self) -> list[str]:
        """Those cells of this line that failed, and why."""
        found = [(cell.name, row(cell.run.path, cell.values)) for cell in self.cells]
        return [
            f"{name} ({one['error'] or one['status']})"
            for name, one in found
            if one["status"] not in ("done", "diverged")
        ]


def row(run: Path, values: dict[str, Any]) -> dict[str, Any]:
    """What became of a cell: its summary, or why there is none."""
    folder = RunFolder(run)
    summary = folder.summary()
    found: dict[str, Any] = {"run": run.name, "values": values, "summary": summary, "error": None}
    if summary is not None:
        return {**found, "status": summary["status"]}
    try:
        failure = json.loads(folder.failure_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {**found, "status": "unfinished"}
    return {**found, "status": "failed", "error": failure["error"]}


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


def _sortable(value: Any) -> tuple[int, float, str]:
    """Numbers in their order, before words in theirs."""
    if isinstance(value, (int, float)):
        return (0, float(value), "")
    return (1, 0.0, str(value))
