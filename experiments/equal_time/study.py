"""Held-out loss at equal training seconds: grids of runs, their table, and what it says. What is
trained is in `with_kernels`."""

import csv
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from matplotlib.axes import Axes

from glam.analysis.paired import interval
from glam.config import ROOT
from glam.reporting.theme import PRINT, dress
from glam.runs.folder import RunFolder
from glam.units import signed

EXPERTS = (1, 8, 16, 32)
MEANS = ("mean", "trained on")
TRIAL = 600_000  # tokens of a run that calibrates
ROUNDED = 8 * 128  # tokens of a step


class Row(NamedTuple):
    """One run: what it was given, and its held-out losses."""

    data: str
    budget: int
    experts: int
    seed: int
    tokens: int
    train_seconds: float
    loss: dict[str, float]


def grid(
    experts: int | Sequence[int], tokens: int, seeds: range, data: str, name: str, *more: str
) -> list[dict[str, Any]]:
    """Runs what is missing of it, seed by seed; the summaries of all of it."""
    several = (experts,) if isinstance(experts, int) else experts
    line = [
        *(sys.executable, "run.py", "-m", f"seed={','.join(map(str, seeds))}"),
        *(f"model.num_experts={','.join(map(str, several))}", f"data={data}"),
        f"training.tokens={tokens}",
        *("hardware=cpu", "hardware.threads=1", "logger=csv"),
        f"study.name={_study(name, data, experts)}",
        *more,
    ]
    subprocess.run(line, cwd=ROOT, check=True)
    return _summaries(_study(name, data, experts))


def _study(name: str, data: str, experts: int | Sequence[int]) -> str:
    return f"{name}_{data}" + (f"_e{experts}" if isinstance(experts, int) else "")


def _summaries(study: str) -> list[dict[str, Any]]:
    runs = ROOT / "runs"
    with (runs / "studies" / study / "study.csv").open() as file:
        found = [RunFolder(runs / row["run"]).summary() for row in csv.DictReader(file)]
    return [summary for summary in found if summary is not None]


def read(table: Path) -> list[Row]:
    """What `write` wrote."""
    with table.open() as file:
        return [
            Row(
                row["data"],
                int(row["budget"]),
                int(row["experts"]),
                int(row["seed"]),
                int(row["tokens"]),
                float(row["train_seconds"]),
                {k.partition("/")[2]: float(v) for k, v in row.items() if k.startswith("loss/")},
            )
            for row in csv.DictReader(file)
        ]


def write(found: Sequence[Row], file: TextIO) -> None:
    writer = csv.writer(file, lineterminator="\n")
    domains = list(found[0].loss)
    writer.writerow([*Row._fields[:-1], *(f"loss/{name}" for name in domains)])
    for row in found:
        losses = [f"{row.loss[name]:.5f}" for name in domains]
        writer.writerow([*row[:-2], f"{row.train_seconds:.1f}", *losses])


def differences(
    found: Sequence[Row], data: str, budget: int, experts: int, domain: str
) -> list[float]:
    """To the dense twin of the same seed, nats."""

    def losses(of: int) -> dict[int, float]:
        place = (data, budget, of)
        return {r.seed: r.loss[domain] for r in found if (r.data, r.budget, r.experts) == place}

    mine, dense = losses(experts), losses(1)
    return [mine[seed] - dense[seed] for seed in sorted(mine.keys() & dense.keys())]


def told(found: Sequence[Row], data: str, budget: int, experts: int, domain: str) -> str:
    paired = differences(found, data, budget, experts, domain)
    low, high = interval(paired) or (math.nan, math.nan)
    return f"{budget} s {signed(statistics.mean(paired))} ({signed(low)} to {signed(high)})"


def overtakes(
    found: Sequence[Row], data: str, experts: int, domain: str, budgets: Sequence[int]
) -> str:
    """Where the mean difference to dense, straight between the budgets in the logarithm of
    seconds, falls below zero; the interval by bootstrap over the seeds."""
    table = np.array([differences(found, data, b, experts, domain) for b in budgets])
    draws = np.random.default_rng(0).integers(0, table.shape[1], (2000, table.shape[1]))
    where = [_crossing(budgets, table[:, draw].mean(axis=1)) for draw in draws]
    low, high = np.quantile(where, [0.025, 0.975], method="nearest")
    middle = _crossing(budgets, table.mean(axis=1))
    middle, low, high = (_seconds(value, budgets) for value in (middle, low, high))
    return f"{middle} ({low} to {high})"


def _crossing(budgets: Sequence[int], difference: np.ndarray) -> float:
    """0 where it is below zero at every budget, infinity where it is above at the last."""
    above = [index for index, value in enumerate(difference) if value >= 0]
    if not above:
        return 0.0
    last = above[-1]
    if last == len(budgets) - 1:
        return math.inf
    left, right = difference[last], difference[last + 1]
    x = np.log(budgets)
    return float(np.exp(x[last] + (x[last + 1] - x[last]) * left / (left - right)))


def _seconds(value: float, budgets: Sequence[int]) -> str:
    if value == 0:
        return f"under {budgets[0]} s"
    return f"{value:.0f} s" if math.isfinite(value) else f"over {budgets[-1]} s"


def panel(axes: Axes, found: Sequence[Row], domain: str) -> None:
    """The difference to the dense twin against seconds, of every number of experts."""
    data, every = found[0].data, sorted({row.budget for row in found})
    dress(axes, PRINT)
    axes.set_xscale("log")
    axes.set_xticks(every, [f"{budget} s" for budget in every])
    axes.minorticks_off()
    axes.axhline(0, color=PRINT.muted, linewidth=0.8)
    for experts in EXPERTS[1:]:
        index = EXPERTS.index(experts)
        all_pairs = {b: differences(found, data, b, experts, domain) for b in every}
        budgets, paired = zip(*((b, pairs) for b, pairs in all_pairs.items() if pairs), strict=True)
        means = [statistics.mean(values) for values in paired]
        tops = [(interval(values) or (0.0, 0.0))[1] for values in paired]
        halves = [top - mean for top, mean in zip(tops, means, strict=True)]
        moved = [budget * 1.04 ** (index - 2) for budget in budgets]  # side by side
        style = {"color": PRINT.colour(index), "marker": "o", "markersize": 4}
        axes.errorbar(moved, means, halves, label=f"{experts} experts", **style)
    which = "all domains" if domain == "mean" else "domains of the training text"
    axes.set_title(f"{data}: {which}", fontsize=10, loc="left", color=PRINT.ink)
    axes.set_ylabel("loss, less the dense twin's", fontsize=9)
