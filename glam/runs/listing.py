"""The runs and studies of a folder, read from what they left: state, differences, losses, size."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glam.config import RunConfig
from glam.errors import UserError
from glam.log import log
from glam.runs.finding import run_date, run_folders, study_date, study_folders
from glam.runs.folder import RunFolder
from glam.runs.naming import differences, label
from glam.runs.study_folder import StudyFolder


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A run as `task=list` shows it. Losses are means over the held-out domains."""

    name: str
    id: str
    state: str  # done | diverged | running | failed | unfinished
    differs: dict[str, Any]  # from the default, by short key
    loss: float | None  # nats per token
    bits_per_byte: float | None
    tokens: int | None  # trained on, or asked for
    date: str  # of its end, or of its start
    bytes: int  # on disk
    study: str | None
    path: str


@dataclass(frozen=True, kw_only=True)
class ListedStudy:
    """A study as `task=list` shows it."""

    name: str
    state: str  # done | unfinished
    cells: int
    done: int
    compares: str | None
    date: str
    path: str


def list_runs(runs: Path) -> list[ListedRun]:
    """The runs in the folder `runs`, newest first."""
    folders = sorted(run_folders(runs), key=lambda folder: run_date(folder.path), reverse=True)
    return [_listed(folder) for folder in folders]


def list_studies(runs: Path) -> list[ListedStudy]:
    """The studies in `runs`/studies, newest first."""
    folders = sorted(study_folders(runs), key=lambda one: study_date(one.path), reverse=True)
    return [_listed_study(folder) for folder in folders]


def _listed(run: RunFolder) -> ListedRun:
    summary, config = run.summary_if_readable(), _config(run)
    differing = differences(config) if config is not None else {}
    asked = config.training.tokens if config is not None else None
    return ListedRun(
        name=run.path.name,
        id=run.id,
        state=_state(run, summary),
        differs={label(key): value for key, value in differing.items()},
        loss=_mean(summary, "loss"),
        bits_per_byte=_mean(summary, "bits_per_byte"),
        tokens=asked if summary is None else summary.get("tokens", asked),
        date=_iso(run_date(run.path)),
        bytes=sum(_sizes(run.path)),
        study=(summary or {}).get("study") or (config.study.name if config is not None else None),
        path=str(run.path),
    )


def _config(run: RunFolder) -> RunConfig | None:
    """None for a file that is damaged, with a warning."""
    try:
        return run.run_config()
    except UserError as error:
        log.warning(str(error))
        return None


def _state(run: RunFolder, summary: dict[str, Any] | None) -> str:
    if summary is not None:
        return summary["status"]
    if (run.path / ".lock").exists() and run.is_held:
        return "running"
    return "failed" if run.failure_file.exists() else "unfinished"


def _mean(summary: dict[str, Any] | None, key: str) -> float | None:
    return None if summary is None else summary.get(key, {}).get("mean")


def _listed_study(study: StudyFolder) -> ListedStudy:
    done = sum(RunFolder(run).summary_if_readable() is not None for run in study.runs)
    return ListedStudy(
        name=study.name,
        state="done" if done == len(study.runs) else "unfinished",
        cells=len(study.runs),
        done=done,
        compares=study.compares,
        date=_iso(study_date(study.path)),
        path=str(study.path),
    )


def _sizes(folder: Path) -> Iterator[int]:
    """Bytes of every file below."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(Path(entry.path))
                else:
                    yield entry.stat(follow_symlinks=False).st_size
            except OSError:  # gone since
                continue


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
