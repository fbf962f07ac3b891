"""The runs of a study as a table: for the page, and `study.csv` for other programs."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from glam.analysis.paired import StudyRow, domains
from glam.reporting.study_figures import label_of
from glam.runs.machine import segments
from glam.runs.record import mapping
from glam.units import DASH, duration, fixed, is_number, percent, si, whole

MEASURES = (
    *("bits_per_byte/mean", "tokens", "tokens_per_second", "train_seconds"),
    *("joules", "joules_per_million_tokens", "joules_per_nat"),
    *("parameters/total", "parameters/active"),
    *("load/busiest", "load/idlest", "load/dropped", "skipped_steps"),
)
# The worst of the layers, by what is recorded of each.
LOAD: dict[str, Callable[[list[float]], float]] = {"busiest": max, "idlest": min, "dropped": max}
MACHINE = ("processor", "instruction_sets", "kernels")


class Column(NamedTuple):
    """A column of the table on the study's page."""

    title: str
    is_number: bool


class Text(NamedTuple):
    """A cell of the page: what is read, and what it is sorted by (empty: last)."""

    shown: str
    value: Any
    link: str = ""
    title: str = ""


def as_csv(cells: Sequence[StudyRow], swept: Sequence[str]) -> str:
    """`study.csv`: a row a cell, empty where nothing is known."""
    names = domains(cells)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    losses, tasks = [f"loss/{name}" for name in names], task_names(cells)
    scores = [f"tasks/{suite}/{task}" for suite, task in tasks]
    last = (*MACHINE, "commit", "error")
    writer.writerow([*swept, "id", "run", "status", *losses, *MEASURES, *scores, *last])
    for cell in cells:
        summary, size = cell.summary, cell.part("parameters")
        found = [
            *(cell.values.get(key) for key in swept),
            *(summary.get("id") or cell.run.rpartition("-")[2], cell.run, cell.status),
            *(cell.loss(name) for name in names),
            cell.part("bits_per_byte").get("mean"),
            *(summary.get(name) for name in ("tokens", "tokens_per_second", "train_seconds")),
            *(cell.part("energy").get(name) for name in MEASURES if name.startswith("joules")),
            *(size.get("total"), size.get("active")),
            *(*_load(summary), summary.get("skipped_steps")),
            *(_score(cell, *task) for task in tasks),
            *(*_machine(cell), summary.get("git"), cell.error),
        ]
        writer.writerow(["" if value is None else value for value in found])
    return out.getvalue()


def task_names(cells: Sequence[StudyRow]) -> list[tuple[str, str]]:
    """Suite and task of every task that any run was judged on."""
    found = [
        (s, task) for cell in cells for s, tasks in cell.part("tasks").items() for task in tasks
    ]
    return list(dict.fromkeys(found))


def _score(cell: StudyRow, suite: str, task: str) -> float | None:
    value = mapping(mapping(cell.part("tasks").get(suite)).get(task)).get("value")
    return float(value) if is_number(value) else None


def _mean_score(cell: StudyRow, suite: str) -> float | None:
    """Of a suite's tasks, unweighted; None where it lacks one."""
    found = [_score(cell, suite, task) for task in mapping(cell.part("tasks").get(suite))]
    scores = [score for score in found if score is not None]
    return sum(scores) / len(scores) if scores and len(scores) == len(found) else None


def _machine(cell: StudyRow) -> list[str | None]:
    """As MACHINE; of a run that was moved, of each machine in turn."""
    machine = cell.part("machine")
    if not machine:
        return [None] * len(MACHINE)
    every = [
        one | {"instruction_sets": " ".join(one["instruction_sets"])} for one in segments(machine)
    ]
    return [", then ".join(one[name] for one in every) for name in MACHINE]


def _load(summary: dict[str, Any]) -> tuple[float | None, ...]:
    """Of the layer where it is worst: busiest and idlest expert over the mean, and the share of
    dropped token choices; None where it is not recorded."""
    layers: list[dict[str, float]] = summary.get("load") or []
    found = {name: [one[name] for one in layers if name in one] for name in LOAD}
    return tuple(worst(found[name]) if found[name] else None for name, worst in LOAD.items())


def columns(
    swept: Sequence[str],
    names: Sequence[str],
    suites: Sequence[str] = (),
    *,
    with_machine: bool = False,
) -> list[Column]:
    """The columns of the table: `swept` keys, losses by the domains `names`, mean scores of the
    `suites`, costs and sizes."""
    words = [*(label_of(key).capitalize() for key in swept), "Report", "Status"]
    words += ["Machine"] * with_machine
    losses = ["Mean loss", *(name for name in names if name != "mean"), *suites]
    numbers = ["Bits/byte", "Tokens/s", "Time", "Energy", "per nat", "Total", "Active"]
    titles = [Column(title, is_number=False) for title in words]
    return titles + [Column(title, is_number=True) for title in (*losses, *numbers)]


def row(
    cell: StudyRow,
    swept: Sequence[str],
    names: Sequence[str],
    study_dir: Path,
    machine: str | None = None,
    suites: Sequence[str] = (),
) -> dict[str, Any]:
    """A row of the page, its cells in the order of `columns`; `machine` where it has that one."""
    summary, size, used = cell.summary, cell.part("parameters"), cell.part("energy")
    report = study_dir.parent.parent / cell.run / "report.html"
    is_known = bool(summary) or report.exists()
    link = f"../../{quote(cell.run)}/report.html" if is_known else ""
    return {
        "status": cell.status,
        "words": [
            *(Text(str(cell.values.get(key, DASH)), cell.values.get(key)) for key in swept),
            Text(cell.run.rpartition("-")[2], cell.run, link=link, title=cell.run),
            Text(state(cell), cell.status),
            *([] if machine is None else [Text(machine or DASH, machine)]),
        ],
        "numbers": [
            *(Text(fixed(cell.loss(name)), cell.loss(name)) for name in names or ["mean"]),
            *(_shown(fixed, _mean_score(cell, suite)) for suite in suites),
            _shown(fixed, cell.part("bits_per_byte").get("mean")),
            _shown(whole, summary.get("tokens_per_second")),
            _shown(duration, summary.get("train_seconds")),
            Text(si(used.get("joules"), "J"), used.get("joules")),
            Text(si(used.get("joules_per_nat"), "J"), used.get("joules_per_nat")),
            _shown(si, size.get("total")),
            _shown(si, size.get("active")),
        ],
        "error": cell.error,
    }


def _shown(write: Any, value: Any) -> Text:
    return Text(write(value), value)


def state(cell: StudyRow) -> str:
    """`done`, or how far a run is that goes on: `train 43 %`."""
    progress = cell.progress
    if not progress:
        return cell.status
    total = progress.get("total") or 0
    share = f" {percent(progress.get('done', 0) / total, 0)}" if total else ""
    return f"{progress.get('stage', 'running')}{share}"
