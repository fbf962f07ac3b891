"""What people read: the page of a run, the page of a study, the lines at the terminal.

Knows run folders only. Matplotlib and jinja2 are imported when a page is written, so that a run
that is skipped can print its summary at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glam.config import StudyConfig
from glam.reporting.console import print_summary

__all__ = ["print_summary", "run_report", "study_report"]


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

    A row is a cell: `{run, values, status, summary, error}`, as `glam.studies` gathers it;
    `swept` are the keys that its `values` name; `study` says what it compares.
    """
    from glam.reporting.study import write

    write(study_dir, rows, list(swept), study or StudyConfig())
