"""Whether a run goes on at the pace of its first minute.

A run at the default size on one thread, long enough not to end, is stopped after so many minutes of
CPU time, and the pace of each minute is read from its `metrics.csv`: there joules are CPU seconds
times a stated 6 W, where no counter measures them, so other work on the machine hardly shows.
Memory is what is resident, looked at from outside. The learning rate hardly falls in that time;
routing does change.
"""

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil

from glam.config import ROOT
from glam.machine.energy import WATTS_PER_CORE

Row = dict[str, object]
INTERVAL = 5.0  # seconds between looks at memory
LONG = 10**9  # tokens


def measure(folder: Path, minutes: float, *overrides: str) -> Iterator[Row]:
    """A row for each minute of CPU time in training. Raises RuntimeError where joules are measured
    here."""
    command = [sys.executable, "run.py", f"training.tokens={LONG}", f"runs_dir={folder}"]
    command += ["logger=csv", "evaluation=held_out", "hardware.threads=1", *overrides]
    process = subprocess.Popen(command, cwd=ROOT)
    held: list[tuple[float, float]] = []  # CPU seconds of training, and resident bytes
    try:
        while process.poll() is None and (not held or held[-1][0] < 60 * minutes):
            time.sleep(INTERVAL)
            held += _look(process.pid, folder)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
    rows = _rows(folder)
    yield from _by_minute(rows, held, int(minutes))


def _look(number: int, folder: Path) -> list[tuple[float, float]]:
    rows = _rows(folder)
    try:
        memory = psutil.Process(number).memory_info().rss
    except psutil.NoSuchProcess:
        return []
    return [(_cpu(rows[-1]), memory)] if rows else []


def _rows(folder: Path) -> list[dict[str, str]]:
    """Of `metrics.csv`, but a last one that is half written."""
    files = list(folder.glob("*/metrics.csv"))
    if not files:
        return []
    with files[0].open(newline="") as lines:
        return [row for row in csv.DictReader(lines) if None not in row.values()]


def _cpu(row: dict[str, str]) -> float:
    return float(row["joules"]) / WATTS_PER_CORE


def _by_minute(
    rows: list[dict[str, str]], held: list[tuple[float, float]], minutes: int
) -> Iterator[Row]:
    for minute in range(minutes):
        mine = [row for row in rows if minute <= _cpu(row) / 60 < minute + 1]
        if len(mine) < 3:
            continue
        paces = sorted(
            (_cpu(b) - _cpu(a)) / (int(b["step"]) - int(a["step"])) for a, b in pairwise(mine)
        )
        memory = [size for cpu, size in held if minute <= cpu / 60 < minute + 1]
        first, last = mine[0], mine[-1]
        steps = int(last["step"]) - int(first["step"])
        yield {
            "minute": minute + 1,
            "steps": steps,
            "cpu_ms_a_step": 1e3 * (_cpu(last) - _cpu(first)) / steps,
            "median_cpu_ms": 1e3 * paces[len(paces) // 2],
            "resident_mb": max(memory) / 1e6 if memory else None,
        }


def verdict(rows: list[Row]) -> Iterator[str]:
    first, last = rows[0], rows[-1]
    for key, what in (("cpu_ms_a_step", "CPU time a step"), ("resident_mb", "memory")):
        change = float(str(last[key])) / float(str(first[key])) - 1
        yield f"{what} in minute {last['minute']}: {change:+.1%} of the first"
