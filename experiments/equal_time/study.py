"""`python -m experiments.equal_time.study [calibrate | train | report]`: held-out loss at equal
training seconds on one core.

`calibrate` measures tokens per second of every model in real runs, two at a time on two cores as
the study's own run, and writes calibration.json; do it on a quiet machine. `train` gives each
model the tokens that it trains on in each budget of seconds, with a schedule that ends there, and
the same seeds. `report` reads what the runs left: results.csv and the figures. Without a word: all.
"""

import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from glam.config import ROOT
from glam.reporting.cells import interval
from glam.reporting.theme import PRINT, dress, save
from glam.reporting.units import signed
from glam.runs import RunFolder

FOLDER = Path(__file__).parent
CALIBRATION, RESULTS = FOLDER / "calibration.json", FOLDER / "results.csv"
EXPERTS = (1, 8, 16, 32)
SEEDS = range(6)
BUDGETS = (180, 60, 20)  # seconds on one core; the longest first
TRIAL = 600_000  # tokens of a run that calibrates
ROUNDED = 8 * 128  # tokens of a step


class Row(NamedTuple):
    """One run: what it was given, and its held-out losses."""

    budget: int
    experts: int
    seed: int
    tokens: int
    train_seconds: float
    loss: dict[str, float]


def calibrate() -> None:
    speeds: dict[str, list[float]] = {}
    for experts in EXPERTS:
        few = ("evaluation.points=0", "evaluation.tokens_per_domain=1024", "rerun=true")
        runs = _grid(experts, [TRIAL], range(90, 94), "calibrate", *few)
        speeds[str(experts)] = [run["tokens_per_second"] for run in runs]
    CALIBRATION.write_text(json.dumps({"tokens_per_second": speeds}, indent=1) + "\n")


def tokens_for(budget: int, experts: int) -> int:
    """What the model trains on in `budget` seconds, in whole steps."""
    speeds = json.loads(CALIBRATION.read_text())["tokens_per_second"][str(experts)]
    return round(budget * statistics.median(speeds) / ROUNDED) * ROUNDED


def train() -> None:
    for budget in BUDGETS:
        for experts in EXPERTS:
            _grid(experts, [tokens_for(budget, experts)], SEEDS, "equal_time")


def _grid(
    experts: int, tokens: Sequence[int], seeds: Sequence[int], name: str, *more: str
) -> list[dict[str, Any]]:
    """Runs what is missing of it; the summaries of all of it."""
    line = [
        *(sys.executable, "run.py", "-m", f"model.num_experts={experts}"),
        f"training.tokens={','.join(map(str, tokens))}",
        f"seed={','.join(map(str, seeds))}",
        *("hardware=cpu", "hardware.threads=1", "logger=csv", f"study.name={name}_e{experts}"),
        *more,
    ]
    subprocess.run(line, cwd=ROOT, check=True)
    return _summaries(name, experts)


def _summaries(name: str, experts: int) -> list[dict[str, Any]]:
    runs = ROOT / "runs"
    with (runs / "studies" / f"{name}_e{experts}" / "study.csv").open() as file:
        found = [RunFolder(runs / row["run"]).summary() for row in csv.DictReader(file)]
    return [summary for summary in found if summary is not None]


def rows() -> list[Row]:
    found: list[Row] = []
    for experts in EXPERTS:
        budgets = {tokens_for(budget, experts): budget for budget in BUDGETS}
        found += [
            Row(
                budgets[run["tokens"]],
                experts,
                run["seed"],
                run["tokens"],
                run["train_seconds"],
                run["loss"],
            )
            for run in _summaries("equal_time", experts)
            if run["tokens"] in budgets
        ]
    return sorted(found)


def read() -> list[Row]:
    """What `report` wrote."""
    with RESULTS.open() as file:
        return [
            Row(
                *(int(row[name]) for name in ("budget", "experts", "seed", "tokens")),
                float(row["train_seconds"]),
                {k.partition("/")[2]: float(v) for k, v in row.items() if k.startswith("loss/")},
            )
            for row in csv.DictReader(file)
        ]


def report() -> None:
    found = rows()
    with RESULTS.open("w", newline="") as file:
        _write(found, file)
    for name, content in _figure(found).items():
        (FOLDER / name).write_bytes(content)
    for budget in sorted(BUDGETS):
        print(f"{budget} s:", ", ".join(_told(found, budget, experts) for experts in EXPERTS[1:]))
    for experts in EXPERTS[1:]:
        print(f"E {experts} overtakes the dense twin after", overtakes(found, experts))


def _write(found: Sequence[Row], file: TextIO) -> None:
    writer = csv.writer(file, lineterminator="\n")
    domains = list(found[0].loss)
    writer.writerow([*Row._fields[:-1], *(f"loss/{name}" for name in domains)])
    for row in found:
        losses = [f"{row.loss[name]:.5f}" for name in domains]
        writer.writerow([*row[:-2], f"{row.train_seconds:.1f}", *losses])


def differences(found: Sequence[Row], budget: int, experts: int, domain: str) -> list[float]:
    """To the dense twin of the same seed, nats."""
    mine, dense = (
        {r.seed: r.loss[domain] for r in found if (r.budget, r.experts) == (budget, wanted)}
        for wanted in (experts, 1)
    )
    return [mine[seed] - dense[seed] for seed in sorted(mine.keys() & dense.keys())]


def _told(found: Sequence[Row], budget: int, experts: int) -> str:
    paired = differences(found, budget, experts, "mean")
    low, high = interval(paired) or (float("nan"), float("nan"))
    return f"E {experts} {signed(statistics.mean(paired))} ({signed(low)} to {signed(high)})"


def overtakes(found: Sequence[Row], experts: int) -> str:
    """Where the mean difference to dense, straight between the budgets in the logarithm of
    seconds, falls below zero; the interval by bootstrap over the seeds."""
    budgets = sorted(BUDGETS)
    table = np.array([differences(found, budget, experts, "mean") for budget in budgets])
    draws = np.random.default_rng(0).integers(0, table.shape[1], (2000, table.shape[1]))
    where = [_crossing(budgets, table[:, draw].mean(axis=1)) for draw in draws]
    low, high = np.quantile(where, [0.025, 0.975])
    return (
        f"{_seconds(_crossing(budgets, table.mean(axis=1)))} ({_seconds(low)} to {_seconds(high)})"
    )


def _crossing(budgets: Sequence[int], difference: np.ndarray) -> float:
    """0 where it is below zero at the first budget, infinity where it is above at the last."""
    above = [index for index, value in enumerate(difference) if value >= 0]
    if not above:
        return 0.0
    last = above[-1]
    if last == len(budgets) - 1:
        return float("inf")
    left, right = difference[last], difference[last + 1]
    x = np.log(budgets)
    return float(np.exp(x[last] + (x[last + 1] - x[last]) * left / (left - right)))


def _seconds(value: float) -> str:
    if value == 0:
        return f"less than {min(BUDGETS)} s"
    return f"{value:.0f} s" if np.isfinite(value) else f"more than {max(BUDGETS)} s"


def _figure(found: Sequence[Row]) -> dict[str, bytes]:
    """Loss, and its difference to the dense twin, against seconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    losses, gains = figure.subplots(1, 2)
    budgets = sorted(BUDGETS)
    for axes in (losses, gains):
        dress(axes, PRINT)
        axes.set_xscale("log")
        axes.set_xticks(budgets, [f"{budget} s" for budget in budgets])
        axes.minorticks_off()
        axes.set_xlabel("training seconds on one core")
    for index, experts in enumerate(EXPERTS):
        style: dict[str, Any] = {"color": PRINT.colour(index), "marker": "o", "markersize": 4}
        label = "dense" if experts == 1 else f"{experts} experts"
        mine = [r for r in found if r.experts == experts]
        means = [statistics.mean(r.loss["mean"] for r in mine if r.budget == b) for b in budgets]
        losses.plot(budgets, means, label=label, **style)
        if experts == 1:
            continue
        paired = [differences(found, budget, experts, "mean") for budget in budgets]
        half = [(interval(values) or (0.0, 0.0))[1] - statistics.mean(values) for values in paired]
        moved = [budget * 1.04 ** (index - 2) for budget in budgets]  # whiskers side by side
        gains.errorbar(moved, [statistics.mean(v) for v in paired], half, **style)
    gains.axhline(0, color=PRINT.muted, linewidth=0.8)
    losses.set_ylabel("held-out loss, mean of the domains (nats)")
    gains.set_ylabel("difference to dense, 95 % interval")
    losses.legend(fontsize=8, frameon=False, labelcolor=PRINT.ink)
    return save(figure, "loss_by_seconds", "equal_time")


def main(words: list[str]) -> int:
    steps = {"calibrate": calibrate, "train": train, "report": report}
    if unknown := [word for word in words if word not in steps]:
        print(f"{unknown[0]}: no such step; there are {', '.join(steps)}", file=sys.stderr)
        return 2
    for name in words or steps:
        steps[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
