"""What is not training: starting, refusing, skipping, and the loop around the step."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from glam.machine.resources import resolve
from glam.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
REPEATS = 5
STEPS = 1500


def measure() -> Iterator[dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        yield from _lines(Path(folder))
        yield from _cells(Path(folder))
        yield from _loop(Path(folder))


def _lines(folder: Path) -> Iterator[dict[str, object]]:
    """Whole processes, by wall-clock time."""
    lines = {
        "--help": (["--help"], 0),
        "a misspelt key": (["model.num_expert=8"], 2),
        "the 1.7B/64E that does not fit": (["model=glam_1b64e", "hardware.memory_gb=16"], 2),
    }
    for name, (arguments, status) in lines.items():
        seconds = sorted(_run(arguments, folder, status)[0] for _ in range(REPEATS))
        yield _row(name, seconds[REPEATS // 2], "s", f"{seconds[0]:.2f} to {seconds[-1]:.2f}")


def _cells(folder: Path) -> Iterator[dict[str, object]]:
    """Many cells that are done: the line again must only find that out."""
    _run(SMALLEST, folder, 0)
    (first,) = (folder / "runs").glob("glam_tiny-*")
    done = RunFolder(first).run_config()
    resources = resolve(done)
    made = 1
    for count in (100, 1000):
        for seed in range(made, count):  # the folders that so many more runs would leave
            copy = RunFolder.of(replace(done, seed=seed), resources).path
            shutil.copytree(first, copy)
        made = count
        line = ["-m", f"seed={','.join(map(str, range(count)))}", *SMALLEST]
        seconds, peak = _run(line, folder, 0)
        note = f"in all, figures included; {peak:.0f} MB of memory"
        yield _row(f"{count:,} finished cells skipped", seconds, "s", note)


SMALLEST = [
    "training.tokens=64",
    "training.batch_size=1",
    "training.sequence_length=32",
    "model.d_model=8",
    "model.d_ff=8",
    "model.num_heads=1",
    "model.num_layers=2",
    "model.num_experts=2",
    "evaluation=held_out",
    "evaluation.tokens_per_domain=64",
    "evaluation.tokens_per_point=64",
    "evaluation.points=1",
    "logger=none",
]


def _loop(folder: Path) -> Iterator[dict[str, object]]:
    """CPU seconds of a run at the default size: in steps, in evaluations, and in all else between
    its first step and its last (Lightning, data, logs, bars, checkpoints)."""
    line = [f"training.tokens={STEPS * 1024}", f"runs_dir={folder}/loop"]
    probe = [sys.executable, "-m", "experiments.benchmarks.loop_probe", *line]
    said = subprocess.run(probe, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    spent = json.loads(said.splitlines()[-1])
    for name in ("steps", "evaluations", "else"):
        share = spent[name] / (spent["all"] - spent["evaluations"])
        yield _row(f"loop: {name}", spent[name], "CPU s", f"{share:.2%} of all but evaluations")


def _run(arguments: list[str], folder: Path, status: int) -> tuple[float, float]:
    """Seconds by the clock, and megabytes at the most."""
    start = time.perf_counter()
    command = [sys.executable, "run.py", *arguments, f"runs_dir={folder}/runs"]
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
        _, ended, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if os.waitstatus_to_exitcode(ended) != status:
            said.seek(0)
            raise RuntimeError(f"{arguments}: not status {status}\n{said.read()}")
    return seconds, usage.ru_maxrss / 1024


def _row(what: str, value: float, unit: str, note: str) -> dict[str, object]:
    return {"what": what, "value": value, "unit": unit, "note": note}
