"""`python -m experiments.memory.measure`: predicted against measured peak memory of training.

Each configuration takes a few steps in a process of its own, in the order that Lightning takes
them: the gradients of one step are dropped after the next forward pass. Measured is the most that
was resident, over what the process held when torch and glam.model were imported, plus the 550 MB
that all imports of a training process take (glam/planning/memory.py counts them in `other`).

With `predict`: measures nothing, counts anew beside the peaks of results.csv.
"""

import csv
import dataclasses
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from glam.config import (
    AdafactorConfig,
    AdamWConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
    from_mapping,
)
from glam.planning.memory import memory
from glam.planning.paper import PAPER_MODELS
from glam.progress import track

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.csv"
IMPORTS = 550  # MB
TINY: dict[str, Any] = {}
SMALL = {"vocab_size": 8192, "d_model": 256, "d_ff": 1024}
CAPACITY = {**SMALL, "dispatcher": "capacity"}
MEDIUM = {"vocab_size": 32768, "num_layers": 6, "d_model": 512, "d_ff": 2048, "num_heads": 8}
MEDIUM_8E = {**MEDIUM, "num_experts": 8}
PAPER = {**dataclasses.asdict(PAPER_MODELS["glam_100m"].config()), "vocab_size": 32768}
PAPER_16E = {
    **dataclasses.asdict(PAPER_MODELS["glam_100m64e"].config()),
    "vocab_size": 32768,
    "num_experts": 16,
}
BFLOAT16, FLOAT32 = "bfloat16", "float32"


class Case(NamedTuple):
    name: str
    model: dict[str, Any]
    rows: int
    length: int
    precision: str
    optimizer: str = "adamw"
    rematerialize: bool = False
    steps: int = 3
    update_in_backward: bool = False


CASES = [
    Case("tiny", TINY, 8, 128, BFLOAT16),
    Case("tiny", TINY, 64, 128, FLOAT32),
    Case("tiny", TINY, 64, 128, BFLOAT16),
    Case("tiny", TINY, 8, 1024, BFLOAT16),
    Case("tiny", TINY, 8, 1024, FLOAT32),
    Case("tiny dense", {"num_experts": 1}, 64, 128, BFLOAT16),
    Case("tiny E 64", {"num_experts": 64}, 64, 128, BFLOAT16),
    Case("tiny V 256,000", {"vocab_size": 256_000, "num_experts": 4}, 8, 512, FLOAT32),
    Case("tiny V 256,000", {"vocab_size": 256_000}, 8, 512, BFLOAT16, "adafactor"),
    Case("small", SMALL, 16, 128, BFLOAT16, steps=40),
    Case("small", SMALL, 16, 128, FLOAT32, "adafactor"),
    Case("small dense", {**SMALL, "num_experts": 1}, 32, 256, BFLOAT16),
    Case("small dense", {**SMALL, "num_experts": 1}, 32, 256, FLOAT32, "adafactor"),
    Case("small E 64", {**SMALL, "num_experts": 64}, 16, 128, FLOAT32),
    Case("small E 64", {**SMALL, "num_experts": 64}, 16, 128, FLOAT32, "adafactor"),
    Case("small L 12", {**SMALL, "num_layers": 12}, 16, 256, BFLOAT16, "adamw", True, 40),
    Case("small L 12", {**SMALL, "num_layers": 12}, 16, 256, FLOAT32, rematerialize=True),
    Case("small capacity", CAPACITY, 8, 256, BFLOAT16),
    Case("small capacity E 64", {**CAPACITY, "num_experts": 64}, 8, 256, FLOAT32),
    Case("medium E 8", MEDIUM_8E, 4, 512, BFLOAT16, steps=40),
    Case("medium E 8", MEDIUM_8E, 4, 512, BFLOAT16, "adafactor", True, 40),
    Case("medium E 8", MEDIUM_8E, 8, 512, FLOAT32),
    Case("medium E 8", MEDIUM_8E, 8, 512, FLOAT32, rematerialize=True),
    Case("paper 0.1B", PAPER, 1, 1024, BFLOAT16, "adafactor"),
    Case("paper 0.1B/16E", PAPER_16E, 2, 1024, BFLOAT16, "adafactor", True, 40),
    Case("paper 0.1B/16E", PAPER_16E, 2, 1024, BFLOAT16, "adafactor", True, 40, True),
    Case("medium E 8", MEDIUM_8E, 8, 512, FLOAT32, "adafactor", update_in_backward=True),
]


def configured(case: Case) -> RunConfig:
    return RunConfig(
        model=from_mapping(ModelConfig, {**dataclasses.asdict(ModelConfig()), **case.model}),
        training=TrainingConfig(
            tokens=case.steps * case.rows * case.length,
            batch_size=case.rows,
            sequence_length=case.length,
            rematerialize=case.rematerialize,
            update_in_backward=case.update_in_backward,
        ),
        optimizer=AdafactorConfig() if case.optimizer == "adafactor" else AdamWConfig(),
    )


def described(case: Case) -> dict[str, str]:
    """The case as a row of results.csv holds it."""
    fields = {**case._asdict(), "model": json.dumps(case.model)}
    return {key: str(value) for key, value in fields.items()}


def predicted(case: Case) -> float:
    """Megabytes."""
    return memory(configured(case), case.precision).total / 1e6  # pyright: ignore


def main(anew: bool) -> None:
    if anew:
        peaks = [_peak(index) for index in track(range(len(CASES)), "measure", len(CASES))]
    else:
        with RESULTS.open() as file:
            peaks = [int(row["measured_mb"]) for row in csv.DictReader(file)]
    rows: list[dict[str, str]] = []
    for case, measured in zip(CASES, peaks, strict=True):
        estimate = predicted(case)
        rows.append(
            {
                **described(case),
                "measured_mb": str(measured),
                "predicted_mb": f"{estimate:.0f}",
                "deviation": f"{estimate / measured - 1:+.3f}",
            }
        )
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows)


def _peak(index: int) -> int:
    command = [sys.executable, "-m", "experiments.memory.measure", str(index)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    said = subprocess.check_output(command, text=True, env=environment)
    measured = int(said) + IMPORTS
    case = CASES[index]
    print(case.name, case.precision, f"{measured:,} MB, predicted {predicted(case):,.0f}")
    return measured


def measure(case: Case) -> int:
    """Megabytes, of a few steps in this process."""
    import psutil
    import torch

    from glam.machine.resources import tune_malloc
    from glam.model import Glam
    from glam.model.gradient_pool import pooling
    from glam.training.module import UpdatesInBackward
    from glam.training.optimizers import Adafactor, build_optimizer

    config = configured(case)
    torch.set_num_threads(1)
    tune_malloc()
    before = psutil.Process().memory_info().rss
    dtype = torch.bfloat16 if case.precision == BFLOAT16 else torch.float32
    model = Glam(config.model, dtype=dtype, rematerialize=config.training.rematerialize)
    optimizer = build_optimizer(config.optimizer_as_built, model)
    updates = None
    if case.update_in_backward:
        assert isinstance(optimizer, Adafactor)
        updates = UpdatesInBackward(model, optimizer)
    sizes = (case.rows, case.length)
    segments = (torch.arange(case.length) >= case.length // 2).long().expand(sizes)
    torch.manual_seed(0)
    with pooling():
        for _ in range(case.steps):
            tokens = torch.randint(0, config.model.vocab_size, sizes)
            output = model.loss(tokens, tokens, segments)
            loss = output.loss + output.balance_loss
            if updates is not None:
                updates.run(loss.backward, config.optimizer_as_built.rate)
                continue
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return round((peak - before) / 1e6)


def draw(rows: Sequence[dict[str, str]]) -> None:
    from matplotlib.ticker import NullFormatter

    from glam.reporting.theme import PRINT, panel

    figure, axes = panel(PRINT, width=5, height=4.2)
    ends = [500, 8000]
    axes.fill_between(
        ends, [0.95 * x for x in ends], [1.05 * x for x in ends], color=PRINT.grid, linewidth=0
    )
    axes.plot(ends, ends, color=PRINT.muted, linewidth=0.8)
    for colour, precision in enumerate((BFLOAT16, FLOAT32)):
        mine = [row for row in rows if row["precision"] == precision]
        measured = [int(row["measured_mb"]) for row in mine]
        estimates = [int(row["predicted_mb"]) for row in mine]
        axes.loglog(
            measured, estimates, "o", color=PRINT.colour(colour), markersize=4, label=precision
        )
    ticks = [500, 1000, 2000, 4000, 8000]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.set_minor_formatter(NullFormatter())
    axes.set(xlim=ends, ylim=ends)
    axes.set_xlabel("measured peak, MB")
    axes.set_ylabel("predicted, MB (grey: 5 % either way)")
    axes.legend(fontsize=8, frameon=False, loc="upper left", labelcolor=PRINT.ink)
    figure.savefig(FOLDER / "predicted.png", dpi=150)
    figure.savefig(FOLDER / "predicted.svg", metadata={"Date": None})


if __name__ == "__main__":
    match sys.argv[1:]:
        case [] | ["predict"]:
            main(anew=len(sys.argv) == 1)
        case [index]:
            print(measure(CASES[int(index)]))
        case _:
            sys.exit(__doc__)
