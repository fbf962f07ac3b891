"""`runs/studies/<name>/`: which runs a study lists, what it asks, and what has become of them."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from glam.config import ROOT, StudyConfig, from_mapping, typed_path
from glam.errors import UserError
from glam.files import UnfitError, read_json, sealed, to_json
from glam.runs.contents import Cells, Failure, Progress
from glam.runs.evaluations import by_task, read_suites
from glam.runs.folder import RunFolder, locked, write_atomically

WRITTEN_AGAIN = "remove it, or make it readable; the study's command writes it again"


class StudyFolder:
    """Owns no runs: they lie beside `studies/`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def find(cls, folder: str) -> "StudyFolder | None":
        """The study in `folder`, relative to the current directory or the repository's root; None
        where there is none."""
        typed = typed_path("study", folder)
        for path in (typed, ROOT / typed):
            with contextlib.suppress(OSError):  # a name that is too long
                if (path / "cells.json").is_file():
                    return cls(path.resolve())
        return None

    @property
    def name(self) -> str:
        return self.path.name

    def record(
        self,
        swept: Sequence[str],
        study: StudyConfig,
        cells: dict[str, dict[str, Any]],
        machine: Mapping[str, Any],
    ) -> None:
        """Remember `cells` (the swept values by run) beside those that other lines brought in, and
        what the `machine` chose for them (device, precision, threads, throughputs)."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock():
            known = self._known().get("cells", [])
            # By id: a run that had no folder yet may have another readable name by now.
            ids = {_id(run) for run in cells}
            others = {e["run"]: e["values"] for e in known if _id(e["run"]) not in ids}
            listed: dict[str, Any] = others | cells
            asked = {**dataclasses.asdict(study), "name": self.name, "cell": None}
            entries = [{"run": run, "values": values} for run, values in listed.items()]
            content = {"swept": list(swept), "study": asked, "machine": machine, "cells": entries}
            write_atomically(self.path / "cells.json", to_json(sealed(content)))

    def lock(self) -> AbstractContextManager[None]:
        """Two people may start the same study: one list and one page at a time."""
        return locked(self.path / ".lock")

    def _known(self) -> Cells:
        """What `cells.json` says; nothing where there is no such file. Raises UserError for one
        that says something else."""
        try:
            known = read_json(self.path / "cells.json", Cells, way_out=WRITTEN_AGAIN)
        except FileNotFoundError:
            return {}
        for one in known.get("cells", []):
            if Path(one["run"]).name != one["run"] or one["run"] in ("", ".."):
                raise self._unreadable(f"{one['run']} is no name of a run")
        return known

    def _unreadable(self, reason: str) -> UnfitError:
        return UnfitError(f"{self.path / 'cells.json'} cannot be read ({reason}); {WRITTEN_AGAIN}")

    @property
    def swept(self) -> list[str]:
        return self._known().get("swept", [])

    @property
    def compares(self) -> str | None:
        """The key whose values the study compares; None where its page finds it by rule."""
        return self.study.compares

    @property
    def machine(self) -> dict[str, Any] | None:
        return cast(dict[str, Any] | None, self._known().get("machine"))

    @property
    def study(self) -> StudyConfig:
        """What the study asks. Raises UserError for a file that does not say."""
        known = self._known()
        try:
            return from_mapping(StudyConfig, known.get("study", {}), may_lack=True)
        except UserError as error:
            raise self._unreadable(str(error)) from None

    @property
    def runs(self) -> list[Path]:
        return [self.path.parent.parent / one["run"] for one in self._known().get("cells", [])]

    def rows(self) -> list[dict[str, Any]]:
        """One row a cell, read from the run folders; sorted by what is swept."""
        known = self._known()
        if "cells" not in known:
            raise self._unreadable("it lists no cells")
        both = zip(self.runs, known["cells"], strict=True)
        rows = [row(run, one["values"]) for run, one in both]
        return sorted(rows, key=lambda r: [_sortable(r["values"].get(key)) for key in self.swept])


def _id(run: str) -> str:
    """Of a run, by the name of its folder."""
    return run.rpartition("-")[2]


def row(run: Path, values: dict[str, Any]) -> dict[str, Any]:
    """What became of a cell: its summary, or why there is none, or how far it is."""
    folder = RunFolder(run)
    summary = folder.summary()
    found: dict[str, Any] = {
        "run": run.name,
        "values": values,
        "summary": summary,
        "error": None,
        "progress": None,
    }
    if summary is not None:
        # A suite that the run was judged on later, by task=evaluate, is none of its summary.
        if judged := {saved["suite"]: by_task(saved) for saved in read_suites(run)}:
            summary["tasks"] = judged
        return {**found, "status": summary["status"]}
    if (progress := folder.read("progress.json", Progress)) is not None and folder.is_held:
        return {**found, "status": "unfinished", "progress": progress}
    if (failure := folder.read("failure.json", Failure)) is not None:
        return {**found, "status": "failed", "error": failure["error"]}
    return {**found, "status": "unfinished"}


def _sortable(value: Any) -> tuple[int, float, str]:
    """Numbers in their order, before words in theirs."""
    if isinstance(value, (int, float)):
        return (0, float(value), "")
    return (1, 0.0, str(value))
