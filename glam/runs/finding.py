"""Runs and studies as people name them: a folder, `latest`, or the unique beginning of a name or
id."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from glam.errors import UserError, nearest
from glam.runs.folder import RunFolder
from glam.runs.study_folder import StudyFolder

LATEST = "latest"
OLD = re.compile(r"\.old\d+$")
SHOWN = 4  # candidates in a message


def find_run(named: str, runs: Path, *, finished: bool = True) -> RunFolder:
    """The run that `named` means among those in the folder `runs`; `latest` is the newest that is
    done, or with `finished=False` the newest of all. Raises UserError, with candidates, where
    that is no run or several."""
    if not named.strip():
        raise UserError("run= is empty; name a run's folder, or run=latest")
    if (folder := RunFolder.containing(named)) is not None:
        folder.run_config()  # another's config.yaml makes no run
        return folder
    if StudyFolder.find(named) is not None:
        raise UserError(f"run={named} is the folder of a study; name one of its runs")
    folders = run_folders(runs)
    if named == LATEST:
        return _newest([f for f in folders if not finished or _is_done(f)], runs, finished)
    matching = _matching(named, [folder.path.name for folder in folders], "run")
    if matching is not None:
        return RunFolder(runs / matching)
    hint = nearest(named, [f.path.name for f in folders][:SHOWN]) if folders else "there are none"
    raise UserError(
        f"run={named} is no run folder (no config.yaml in it) and the beginning of no run in "
        f"{runs}; {hint}; python run.py task=list shows the runs"
    )


def find_study(named: str, runs: Path) -> StudyFolder:
    """The study that `named` means among those in `runs`/studies; `latest` is the newest. Raises
    UserError, with candidates, where that is no study or several."""
    if not named.strip():
        raise UserError("study= is empty; name a study's folder, or study=latest")
    if (study := StudyFolder.find(named)) is not None:
        return study
    studies = study_folders(runs)
    if named == LATEST and studies:
        return max(studies, key=lambda study: study_date(study.path))
    matching = _matching(named, [study.path.name for study in studies], "study")
    if matching is not None:
        return StudyFolder(runs / "studies" / matching)
    raise UserError(
        f"study={named} is no study (no cells.json in it); "
        f"{nearest(named, [study.path.name for study in studies])}; "
        f"python run.py task=list shows the studies"
    )


def run_folders(runs: Path) -> list[RunFolder]:
    """The runs in a folder, those moved aside by `rerun=true` left out."""
    return [RunFolder(path) for path in _having("config.yaml", runs) if not OLD.search(path.name)]


def study_folders(runs: Path) -> list[StudyFolder]:
    """The studies in a folder of runs, by name."""
    return [StudyFolder(path) for path in _having("cells.json", runs / "studies")]


def _having(name: str, folder: Path) -> list[Path]:
    """The sub-folders that hold `name`, whatever it is: what is no file is said by who reads it."""
    try:
        return sorted(path for path in folder.iterdir() if os.path.lexists(path / name))
    except OSError:
        return []


def run_date(run: Path) -> float:
    """When a run was finished, or else begun: seconds since the epoch."""
    return _date(run, ("summary.json", "failure.json", "config.yaml"))


def study_date(study: Path) -> float:
    """When a study was last begun: seconds since the epoch."""
    return _date(study, ("cells.json",))


def _date(folder: Path, files: Sequence[str]) -> float:
    for name in files:
        try:
            return (folder / name).stat().st_mtime
        except OSError:
            continue
    return 0.0


def _is_done(run: RunFolder) -> bool:
    summary = run.summary_if_readable()
    return summary is not None and summary["status"] == "done"


def _newest(folders: Sequence[RunFolder], runs: Path, finished: bool) -> RunFolder:
    if not folders:
        kind = "finished run" if finished else "run"
        raise UserError(f"run=latest: there is no {kind} in {runs}; python run.py trains one")
    return max(folders, key=lambda folder: run_date(folder.path))


def _matching(named: str, names: Sequence[str], key: str) -> str | None:
    """The one of `names` that is `named`, or begins with it, or whose id does. Raises UserError
    where several do."""
    if named in names:
        return named
    begins = [n for n in names if n.startswith(named) or n.rpartition("-")[2].startswith(named)]
    if not named or not begins:
        return None
    if len(begins) > 1:
        shown = ", ".join(begins[:SHOWN]) + (", …" if len(begins) > SHOWN else "")
        raise UserError(
            f"{key}={named} is the beginning of {len(begins)}: {shown}; type more of it"
        )
    return begins[0]
