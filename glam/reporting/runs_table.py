"""`task=list` at the terminal and for scripts: runs and studies as a table, JSON or CSV."""

import csv
import dataclasses
import io
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from glam.runs.listing import ListedRun, ListedStudy
from glam.units import counted, fixed, si

STYLES = {"done": "green", "running": "cyan", "failed": "red", "diverged": "yellow"}
OFF_TERMINAL = 160  # columns, where no terminal says how many it has
NARROW = 110  # columns below which a run has no bits per byte and no time of day
DAY = len("2026-11-30")


def print_runs(runs: Sequence[ListedRun], studies: Sequence[ListedStudy]) -> None:
    """Two tables, newest first."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else OFF_TERMINAL)
    if runs:
        console.print(_runs(runs, console.width < NARROW))
    if studies:
        console.print(_studies(studies))


def as_json(runs: Sequence[ListedRun], studies: Sequence[ListedStudy]) -> str:
    """`{runs: [...], studies: [...]}`, an object of all fields each."""
    content = {
        "runs": [dataclasses.asdict(run) for run in runs],
        "studies": [dataclasses.asdict(study) for study in studies],
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def as_csv(runs: Sequence[ListedRun], studies: Sequence[ListedStudy]) -> str:
    """A row for each run and study, told apart by the column `kind`."""
    rows: list[dict[str, Any]] = [
        {"kind": "run"} | dataclasses.asdict(run) | {"differs": differs_in_words(run.differs)}
        for run in runs
    ]
    rows += [{"kind": "study"} | dataclasses.asdict(study) for study in studies]
    fields = [field.name for kind in (ListedRun, ListedStudy) for field in dataclasses.fields(kind)]
    out = io.StringIO()
    writer = csv.DictWriter(out, ["kind", *dict.fromkeys(fields)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def differs_in_words(differing: Mapping[str, Any]) -> str:
    """`num_experts=8 seed=1`; empty for the default run."""
    return " ".join(f"{key}={_short(value)}" for key, value in differing.items())


def _runs(runs: Sequence[ListedRun], is_narrow: bool) -> Table:
    table = _table(f"\n{counted(len(runs), 'run')}")
    table.add_column("run", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in ("loss",) if is_narrow else ("loss", "bits/byte"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("date", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("differs from the default", overflow="fold")
    for run in runs:
        table.add_row(
            Text(run.id),
            Text(run.state, style=STYLES.get(run.state, "")),
            fixed(run.loss),
            *([] if is_narrow else [fixed(run.bits_per_byte)]),
            si(run.tokens),
            _local(run.date)[:DAY] if is_narrow else _local(run.date),
            si(run.bytes, "B"),
            Text(differs_in_words(run.differs) or "nothing"),
        )
    return table


def _studies(studies: Sequence[ListedStudy]) -> Table:
    table = _table(f"\n{len(studies)} stud{'y' if len(studies) == 1 else 'ies'}")
    table.add_column("study", overflow="fold")
    table.add_column("cells done", justify="right")
    table.add_column("compares", overflow="fold")
    table.add_column("started", no_wrap=True)
    for study in studies:
        table.add_row(
            Text(study.name),
            Text(f"{study.done} of {study.cells}", style=STYLES.get(study.state, "")),
            Text(study.compares or ""),
            _local(study.date),
        )
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, padding=(0, 1), header_style="dim")


def _local(date: str) -> str:
    return datetime.fromisoformat(date).astimezone().strftime("%Y-%m-%d %H:%M")


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"  # pyright: ignore[reportUnknownArgumentType]
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
