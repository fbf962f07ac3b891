"""What the files of a run say, as rows of the table of the first hour."""

import csv
import itertools
import json
import statistics
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One figure."""

    check: str  # steps | speed | memory | resume
    model: str
    figure: str
    value: str
    note: str = ""


class Pace(NamedTuple):
    """Of a run whose log has a row for every step."""

    first: float  # [s] the first step beyond a later one: compiling
    step: float  # [s] the median of the second half


def column(run: Path, name: str) -> list[float]:
    """A column of the run's log."""
    with (run / "metrics.csv").open(newline="") as lines:
        return [float(row[name]) for row in csv.DictReader(lines) if row[name]]


def pace(run: Path) -> Pace:
    """Seconds of compiling and of a step."""
    seconds = column(run, "train_seconds")
    steps = [after - before for before, after in itertools.pairwise(seconds)]
    step = statistics.median(steps[len(steps) // 2 :])
    return Pace(first=seconds[0] - step, step=step)


def difference(one: Path, other: Path) -> float:
    """The largest between the losses of two runs, step by step. Raises ValueError where they have
    not equally many."""
    pairs = zip(column(one, "loss"), column(other, "loss"), strict=True)
    return max(abs(mine - theirs) for mine, theirs in pairs)


def speed(model: str, run: Path, plan: dict[str, Any], tokens: int, peak: float) -> list[Row]:
    """Of `tokens` a step; `peak` is of all devices together [FLOP/s]."""
    found = pace(run)
    per_second = tokens / found.step
    share = per_second * plan["flops_per_token"]["training"] / peak
    return [
        Row("speed", model, "tokens per second", f"{per_second:.0f}"),
        Row("speed", model, "share of peak", f"{share:.4f}", "training FLOPs by the plan"),
        Row("speed", model, "seconds of compiling", f"{found.first:.1f}", "the first step's"),
        Row("speed", model, "seconds a step", f"{found.step:.4f}", "median of the second half"),
    ]


def memory(model: str, peaks: Path, plan: dict[str, Any]) -> list[Row]:
    """The largest of all processes, beside the plan's count of one device."""
    found = [json.loads(file.read_text()) for file in sorted(peaks.glob("*.json"))]
    rows = [
        Row("memory", model, f"bytes, {kind}", f"{max(each[kind] for each in found):.0f}")
        for kind in ("chip", "host")
        if found and all(kind in each for each in found)
    ]
    rows.append(Row("memory", model, "bytes, plan", str(plan["bytes_per_device"]["total"])))
    return rows


def compiler(model: str, plan: dict[str, Any], slice_: str) -> Row:
    """What the compiler says of one chip of a slice, beside what is counted of that."""
    counted, said = plan["bytes_per_device"]["total"], plan["compiled"]
    route = said["route"]
    by = f"a loop over layers on {slice_}, by {route} {said['versions'][route]}"
    note = f"{by}; the plan's count of that: {counted}"
    return Row("memory", model, "bytes, compiler", str(said["total_bytes"]), note)


def write(rows: list[Row], file: Path, device: str) -> None:
    """A CSV whose every row names the device."""
    with file.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["device", *Row._fields])
        table.writerows([device, *row] for row in rows)
