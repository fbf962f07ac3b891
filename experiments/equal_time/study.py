"""`python -m experiments.equal_time.study [calibrate | train | report]`: held-out loss at equal
training seconds on one core.

`calibrate` measures tokens per second of every model in real runs, two at a time on two cores as
the study's own run, and writes calibration.json; do it on a quiet machine. `train` gives each
model the tokens that it trains on in each budget of seconds, with a schedule that ends there, and
the same seeds. `report` reads what the runs left: results.csv and the figures. Without a word: all.
"""

import csv
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glam.analysis.paired import interval
from glam.config import ROOT
from glam.reporting.theme import PRINT, dress, save
from glam.runs.folder import RunFolder
from glam.units import signed

FOLDER = Path(__file__).parent
CALIBRATION, RESULTS = FOLDER / "calibration.json", FOLDER / "results.csv"
EXPERTS = (1, 8, 16, 32)


class Half(NamedTuple):
    """One half of the study: a data recipe, and what is run with it."""

    experts: tuple[int, ...]
    seeds: range
    budgets: tuple[int, ...]  # seconds on one core, rising
    trained_on: tuple[str, ...]  # domains whose like is in the training text


# Filtered text holds hardly any tweets, and after 180 s its web pages are repeated; unfiltered
# text has enough of everything for twice that. Wikipedia is in neither.
STUDY = {
    "filtered": Half(EXPERTS, range(6), (20, 60, 180), ("speeches", "scripture", "reviews")),
    "unfiltered": Half(
        (1, 16), range(5), (60, 180, 360), ("speeches", "scripture", "reviews", "tweets")
    ),
}
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


def calibrate() -> None:
    speeds: dict[str, list[float]] = {}
    for experts in EXPERTS:
        few = (
            "evaluation=held_out",
            "evaluation.points=0",
            "evaluation.tokens_per_domain=1024",
            "rerun=true",
        )
        runs = grid(experts, TRIAL, range(90, 94), "filtered", "calibrate", *few)
        speeds[str(experts)] = [run["tokens_per_second"] for run in runs]
    CALIBRATION.write_text(json.dumps({"tokens_per_second": speeds}, indent=1) + "\n")


def tokens_for(budget: int, experts: int) -> int:
    """What the model trains on in `budget` seconds, in whole steps."""
    speeds = json.loads(CALIBRATION.read_text())["tokens_per_second"][str(experts)]
    return round(budget * statistics.median(speeds) / ROUNDED) * ROUNDED


def train() -> None:
    for data, half in STUDY.items():
        for budget in reversed(half.budgets):
            for experts in half.experts:
                grid(experts, tokens_for(budget, experts), half.seeds, data, "equal_time")


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


def rows() -> list[Row]:
    """Of the runs that are there; of each half a "trained on" beside the mean of all domains."""
    found: list[Row] = []
    for data, half in STUDY.items():
        for experts in half.experts:
            budgets = {tokens_for(budget, experts): budget for budget in half.budgets}
            for run in _summaries(_study("equal_time", data, experts)):
                loss = dict(run["loss"])
                loss["trained on"] = statistics.mean(loss[name] for name in half.trained_on)
                budget, tokens = budgets.get(run["tokens"]), run["tokens"]
                if budget is not None:
                    place = (data, budget, experts, int(run["seed"]), tokens)
                    found.append(Row(*place, run["train_seconds"], loss))
    return sorted(found)


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


def report() -> None:
    found = rows()
    with RESULTS.open("w", newline="") as file:
        write(found, file)
    for name, content in _figure(found).items():
        (FOLDER / name).write_bytes(content)
    for data, half in STUDY.items():
        for domain in MEANS:
            for experts in half.experts[1:]:
                line = [told(found, data, budget, experts, domain) for budget in half.budgets]
                since = overtakes(found, data, experts, domain, half.budgets)
                print(f"{data}, {domain}, E {experts}:", "; ".join(line))
                print("  below the dense twin from", since)


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


def _figure(found: Sequence[Row]) -> dict[str, bytes]:
    """For each half, the difference to the dense twin against seconds: over all domains, and over
    those whose like is trained on."""
    figure = Figure(figsize=(8.4, 5.6), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    for line, (data, half) in zip(panels, STUDY.items(), strict=True):
        for axes, domain in zip(line, MEANS, strict=True):
            panel(axes, found, data, half, domain)
    panels[0, 0].legend(fontsize=8, frameon=False, labelcolor=PRINT.ink)
    return save(figure, "difference_by_seconds", "equal_time")


def panel(axes: Axes, found: Sequence[Row], data: str, half: Half, domain: str) -> None:
    dress(axes, PRINT)
    axes.set_xscale("log")
    axes.set_xticks(half.budgets, [f"{budget} s" for budget in half.budgets])
    axes.minorticks_off()
    axes.axhline(0, color=PRINT.muted, linewidth=0.8)
    for experts in half.experts[1:]:
        index = EXPERTS.index(experts)
        all_pairs = {b: differences(found, data, b, experts, domain) for b in half.budgets}
        budgets, paired = zip(*((b, pairs) for b, pairs in all_pairs.items() if pairs), strict=True)
        means = [statistics.mean(values) for values in paired]
        tops = [(interval(values) or (0.0, 0.0))[1] for values in paired]
        half_widths = [top - mean for top, mean in zip(tops, means, strict=True)]
        moved = [budget * 1.04 ** (index - 2) for budget in budgets]  # side by side
        style = {"color": PRINT.colour(index), "marker": "o", "markersize": 4}
        axes.errorbar(moved, means, half_widths, label=f"{experts} experts", **style)
    which = "all five domains" if domain == "mean" else "domains like the training text"
    axes.set_title(f"{data}: {which}", fontsize=10, loc="left", color=PRINT.ink)
    axes.set_ylabel("loss, less the dense twin's", fontsize=9)


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
