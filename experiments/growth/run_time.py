"""Where the time of `make run` goes, by what a run itself records (`seconds.json`).

The command behind `make run` is run twice in a folder of its own: on text that nobody has prepared
yet, as in a fresh clone, and on prepared text, with another seed. `start` is Python, the
configuration, W&B, PyTorch and the model; `preparation` is the text; both are before the first
step. `outside` is what the process itself cannot record: its last moments. With `kernels` the
runs are told to keep to that instruction set, `avx2` for one.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glam.config import ROOT

Row = dict[str, object]
RUNS = {"fresh clone": "seed=0", "text prepared": "seed=1"}
TRAINING = "training"


def measure(folder: Path, kernels: str) -> Iterator[Row]:
    """`kernels` as in `GLAM_KERNELS`."""
    for name, seed in RUNS.items():
        for row in _of_a_run(name, seed, folder, {**os.environ, "GLAM_KERNELS": kernels}):
            yield {"kernels": kernels, **row}


def _of_a_run(name: str, seed: str, folder: Path, environment: dict[str, str]) -> Iterator[Row]:
    runs = folder / name.replace(" ", "_")
    places = [f"runs_dir={runs}", f"cache_dir={folder}/cache"]
    began, used = time.perf_counter(), _cpu()
    command = [sys.executable, "run.py", seed, *places]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    wall, cpu = time.perf_counter() - began, _cpu() - used
    (recorded,) = runs.glob("*/seconds.json")
    spent: dict[str, Any] = json.loads(recorded.read_text())
    phases = {phase: one for phase, one in spent.items() if phase != "sha256"}
    inside = sum(one["wall"] for one in phases.values())
    phases["outside"] = {
        "wall": max(0.0, wall - inside),  # the process began a moment after it was asked for
        "cpu": cpu - sum(one["cpu"] for one in phases.values()),
        "times": 1,
    }
    for phase, one in phases.items():
        yield {
            "run": name,
            "phase": phase,
            "seconds": one["wall"],
            "share": one["wall"] / wall,
            "cpu_seconds": one["cpu"],
            "cpu_share": one["cpu"] / cpu,
            "times": one["times"],
            "seconds_each": one["wall"] / one["times"],
        }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def verdict(rows: list[Row]) -> Iterator[str]:
    """What is not training, of the whole of each run."""
    for name in RUNS:
        mine = [row for row in rows if row["run"] == name and row["phase"] != TRAINING]
        wall, cpu = (sum(float(str(row[key])) for row in mine) for key in ("share", "cpu_share"))
        yield f"{name}: {wall:.1%} of the time is not training, {cpu:.1%} of the CPU time"
