"""Runs of 300 steps: with each set of kernels over several seeds, and the same run in other ways.

The model is the default one in float32, its text that of `make run`. A set's loss beside the
default set's is compared with how far runs differ that differ in their seed alone. Whether digits
are the same is read from the weights: two runs agree if the SHA-256 of all weights does.
"""

import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from glam.analysis.paired import interval
from glam.config import ROOT
from glam.model.saved import saved_weights

Row = dict[str, object]
STEPS = 300
LINE = (
    f"training.tokens={STEPS * 1024}",
    "evaluation=held_out",
    "evaluation.points=1",
    "evaluation.tokens_per_domain=20000",
    "data.contamination.report=false",
    "logger=csv",
)
SETS = ("on", "avx2", "off")  # of GLAM_KERNELS; `on` is the best that the processor has
PRECISIONS = ("float32", "bfloat16")


def of_seeds(folder: Path, seeds: int) -> Iterator[Row]:
    """A row a run. Sets take turns within a seed."""
    for seed in range(seeds):
        for kernels in SETS:
            place = folder / kernels
            summary = trained(place, kernels, f"seed={seed}", "hardware.precision=float32")
            yield {
                "kernels": kernels,
                "set": summary["machine"]["kernels"],
                "seed": seed,
                "loss": summary["loss"]["mean"],
                "tokens": summary["tokens"],
                "weights": digest(place, seed)[:12],
            }


def within_noise(rows: list[Row]) -> Iterator[Row]:
    """Of each set: its differences from the default set, and what a seed changes."""
    losses = {k: [float(str(r["loss"])) for r in rows if r["kernels"] == k] for k in SETS}
    noise = statistics.stdev(losses["on"])
    for kernels in SETS[1:]:
        pairs = zip(losses[kernels], losses["on"], strict=True)
        differences = [mine - other for mine, other in pairs]
        around = interval(differences)
        yield {
            "kernels": kernels,
            "mean_difference": statistics.mean(differences),
            "largest_difference": max(map(abs, differences)),
            "low": around[0] if around else None,
            "high": around[1] if around else None,
            "sd_of_seeds": noise,
            "within": abs(statistics.mean(differences)) <= noise,
        }


def same_digits(folder: Path) -> Iterator[Row]:
    """One run as it is, with two threads, and killed and resumed: by set and type."""
    for kernels in SETS:
        for precision in PRECISIONS:
            line = (f"hardware.precision={precision}", "seed=0")
            found: dict[str, tuple[str, float]] = {}
            for way, threads in (("one thread", 1), ("two threads", 2), ("resumed", 1)):
                place = folder / f"{kernels}-{precision}-{way.replace(' ', '-')}"
                words = (*line, f"hardware.threads={threads}")
                if way == "resumed":
                    broken_off(place, kernels, *words)
                summary = trained(place, kernels, *words)
                found[way] = digest(place, 0), summary["loss"]["mean"]
            one, loss = found["one thread"]
            for way in ("two threads", "resumed"):
                yield {
                    "kernels": kernels,
                    "precision": precision,
                    "way": way,
                    "same_bits": found[way][0] == one,
                    "loss_difference": found[way][1] - loss,
                }


def trained(place: Path, kernels: str, *overrides: str) -> dict[str, Any]:
    """The summary of a run. Raises RuntimeError with its last words where it fails."""
    ran = subprocess.run(
        _command(place, *overrides), cwd=ROOT, env=_environment(kernels), capture_output=True
    )
    if ran.returncode:
        raise RuntimeError(f"GLAM_KERNELS={kernels}: {ran.stderr.decode()[-1000:]}")
    newest = max(place.glob("*/summary.json"), key=lambda file: file.stat().st_mtime)
    return json.loads(newest.read_text())


def broken_off(place: Path, kernels: str, *overrides: str) -> None:
    """Killed once it has a checkpoint, and some steps after it. Raises RuntimeError where it ends
    before."""
    words = ("training.milestone_steps=100", *overrides)
    process = subprocess.Popen(
        _command(place, *words),
        cwd=ROOT,
        env=_environment(kernels),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None:
        metrics = next(iter(place.glob("*/metrics.csv")), None)
        has_one = next(iter(place.glob("*/checkpoints/step-*")), None)
        if metrics and has_one and _steps(metrics) >= 140:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.05)
    raise RuntimeError("the run ended before it could be killed")


def _steps(metrics: Path) -> int:
    last = metrics.read_text().splitlines()[-1].split(",")[0]
    return int(last) if last.isdecimal() else 0


def _command(place: Path, *overrides: str) -> Sequence[str]:
    return [sys.executable, "run.py", *LINE, f"runs_dir={place}", *overrides]


def _environment(kernels: str) -> dict[str, str]:
    return {**os.environ, "GLAM_KERNELS": kernels}


def digest(place: Path, seed: int) -> str:
    """Of the weights that a run ended with."""
    (run,) = place.glob(f"*-s{seed}-*")
    found = hashlib.sha256()
    for name, weight in sorted(saved_weights(run).items()):
        found.update(name.encode() + weight.numpy().tobytes())
    return found.hexdigest()
