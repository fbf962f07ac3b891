"""`python -m experiments.upcycling.study [train | report]`: a dense model that becomes a sparse
one, against one that is trained anew.

`train` trains what is missing, three runs at a time: for each seed the dense models, then all that
trains on from them. `report` reads what the runs left: results.csv, curves.csv and the figure.
Without a word: both.
"""

import csv
import math
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hydra import compose, initialize_config_dir
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glam.analysis.paired import interval
from glam.composition.overrides import CONF
from glam.composition.schema import register, to_run_config
from glam.config import ROOT
from glam.reporting.theme import PRINT, dress, save
from glam.runs.folder import RunFolder
from glam.runs.record import Record
from glam.tasks.run_task import run_task
from glam.units import ticks

FOLDER = Path(__file__).parent
RUNS = ROOT / "runs" / "upcycling"
RESULTS, CURVES = FOLDER / "results.csv", FOLDER / "curves.csv"
SEEDS = range(5)
TOKENS = 125_000  # of the dense model, and again of what goes on from it
EXPERTS = 8


class Arm(NamedTuple):
    """A way to a model; `begins_with` is the arm whose run of the same seed gives the weights."""

    words: tuple[str, ...]
    begins_with: str | None = None


SPARSE, DENSE = f"model.num_experts={EXPERTS}", "model.num_experts=1"
ARMS = {
    "dense": Arm((DENSE,)),
    "half as wide": Arm((DENSE, "model.top_k=1")),
    "anew": Arm((SPARSE,)),
    "dense, trained on": Arm((DENSE,), begins_with="dense"),
    "upcycled from slices": Arm((SPARSE,), begins_with="dense"),
    "upcycled from copies": Arm((SPARSE,), begins_with="half as wide"),
}
SHOWN = ("anew", "dense, trained on", "upcycled from slices", "upcycled from copies")
FIXED = (
    *("model=glam_nano", "hardware=cpu", "hardware.threads=1", "logger=none"),
    *("evaluation=held_out", "evaluation.points=5", "evaluation.tokens_per_domain=20000"),
    *("evaluation.tokens_per_point=2048", f"training.tokens={TOKENS}", "log_level=warning"),
)


class Run(NamedTuple):
    """A finished run of an arm."""

    arm: str
    seed: int
    record: Record


def train() -> None:
    """Three processes, each a seed at a time: to start one for every run would take longer."""
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        for _ in pool.map(_train, SEEDS):
            pass


def _train(seed: int) -> None:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for name, arm in ARMS.items():  # those that others begin with are first
            words = [*FIXED, *arm.words, f"seed={seed}", f"runs_dir={folder_of(name)}"]
            if arm.begins_with is not None:
                words.append(f"model.init_from={_run(arm.begins_with, seed)}")
            run_task(to_run_config(compose("config", words)), words)


def folder_of(arm: str) -> Path:
    return RUNS / arm.replace(",", "").replace(" ", "_")


def _run(arm: str, seed: int) -> Path:
    """The folder of a run that is done."""
    for path in sorted(folder_of(arm).glob("glam_*")):
        if RunFolder(path).run_config().seed == seed and RunFolder(path).summary():
            return path
    raise SystemExit(f"{folder_of(arm)} has no finished run of seed {seed}; train it first")


def runs() -> Iterator[Run]:
    for name in ARMS:
        for seed in SEEDS:
            yield Run(name, seed, Record.read(_run(name, seed)))


def report() -> None:
    found = list(runs())
    _write_results(found)
    _write_curves(found)
    for name, content in figure(found).items():
        (FOLDER / name).write_bytes(content)


def _write_results(found: list[Run]) -> None:
    """A table as studies leave it, which `experiments.paired` reads."""
    domains = list(found[0].record.part("loss"))
    with RESULTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        losses = [f"loss/{name}" for name in domains]
        writer.writerow(["arm", "seed", "id", "status", "tokens", "train_seconds", *losses])
        for run in found:
            told = run.record.summary
            each = [f"{told['loss'][name]:.5f}" for name in domains]
            seconds = f"{told['train_seconds']:.1f}"
            # A comma would be another key to experiments.paired.
            arm = run.arm.replace(",", "")
            writer.writerow(
                [arm, run.seed, told["id"], told["status"], told["tokens"], seconds, *each]
            )


def _write_curves(found: list[Run]) -> None:
    """The mean held-out loss during training, on fewer tokens than at its end."""
    with CURVES.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["arm", "seed", "tokens", "loss/mean"])
        for run in found:
            for tokens, loss in zip(*run.record.held_out("mean"), strict=True):
                writer.writerow([run.arm.replace(",", ""), run.seed, int(tokens), f"{loss:.5f}"])


def figure(found: list[Run]) -> dict[str, bytes]:
    """Loss against further tokens, and by arm its paired difference to training anew."""
    whole = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = whole.subplots(1, 2, width_ratios=(3, 2))
    for axes in (left, right):
        dress(axes, PRINT)
    _draw_curves(left, found)
    _draw_differences(right, found)
    return save(whole, "loss_by_further_tokens", "upcycling")


def _draw_curves(axes: Axes, found: list[Run]) -> None:
    for index, name in enumerate(SHOWN):
        curves = [run.record.held_out("mean") for run in found if run.arm == name]
        tokens, losses = curves[0][0], np.array([loss for _, loss in curves])
        around = [interval(column.tolist()) or (math.nan, math.nan) for column in losses.T]
        low, high = zip(*around, strict=True)
        colour = PRINT.colour(index)
        axes.plot(tokens, losses.mean(0), label=name, color=colour)
        axes.fill_between(tokens, low, high, alpha=0.15, linewidth=0, color=colour)
    axes.xaxis.set_major_formatter(lambda value, _: ticks(value))
    axes.set_xlabel("further tokens", fontsize=9)
    axes.set_ylabel("held-out loss, nats per token", fontsize=9)
    axes.legend(fontsize=8, frameon=False, labelcolor=PRINT.ink)


def _draw_differences(axes: Axes, found: list[Run]) -> None:
    end = {(run.arm, run.seed): run.record.part("loss")["mean"] for run in found}
    names = [name for name in ARMS if name not in ("anew", "dense", "half as wide")]
    for row, name in enumerate(names):
        paired = [end[name, seed] - end["anew", seed] for seed in SEEDS]
        mean = statistics.mean(paired)
        low, _ = interval(paired) or (math.nan, math.nan)
        shown = SHOWN.index(name) if name in SHOWN else len(SHOWN)
        style = {"color": PRINT.colour(shown), "marker": "o", "markersize": 5, "capsize": 3}
        axes.errorbar(mean, row, xerr=mean - low, **style)
        axes.plot(paired, [row + 0.18] * len(paired), ".", markersize=4, color=style["color"])
    axes.axvline(0, color=PRINT.muted, linewidth=0.8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("loss at the end, less that of anew", fontsize=9)


def main(words: list[str]) -> int:
    steps = {"train": train, "report": report}
    if unknown := [word for word in words if word not in steps]:
        print(f"{unknown[0]}: no such step; there are {', '.join(steps)}", file=sys.stderr)
        return 2
    for name in words or steps:
        steps[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
