"""What people read: the page of a run, the page of a study, the lines at the terminal.

Reads run folders only. Matplotlib and jinja2 are imported when a page is written, so that a run
that is skipped can print its summary at once.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glam.config import StudyConfig
from glam.reporting.console import print_summary
from glam.runs.study_folder import StudyFolder

__all__ = ["print_summary", "refresh_study", "run_report", "study_report", "write_study"]

FRESH_SECONDS = 60.0  # a study's page younger than this is not written again by its runs


def run_report(run: Path) -> Path:
    """Write `report.html` into the run folder from whatever the folder holds, and return its
    path. The page needs no network."""
    from glam.reporting.run import write

    return write(run)


def study_report(
    study_dir: Path,
    rows: list[dict[str, Any]],
    swept: Sequence[str],
    study: StudyConfig | None = None,
) -> None:
    """Write `study.csv`, `study.html` and the figures (PNG and SVG) into `study_dir`.

    A row is a cell: `{run, values, status, summary, error}`, as `StudyFolder.rows` gathers it;
    `swept` are the keys that its `values` name; `study` says what it compares.
    """
    from glam.reporting.study import write

    write(study_dir, rows, list(swept), study or StudyConfig())


def write_study(study: StudyFolder) -> Path:
    """Write the study's table, page and figures from its run folders; returns the page."""
    with study.lock():
        study_report(study.path, study.rows(), study.swept, study.study)
    return study.path / "study.html"


def refresh_study(study: StudyFolder) -> None:
    """Write the page while the grid goes on, unless it is younger than FRESH_SECONDS."""
    try:
        if time.time() - (study.path / "study.html").stat().st_mtime < FRESH_SECONDS:
            return
    except OSError:
        pass  # the first page
    write_study(study)
