"""`python -m experiments.moe_vs_dense.compare`: what sixteen experts and their dense twin spend on
the same held-out loss, in tokens, FLOPs and seconds of one core, from results.csv.

For each seed the loss is the worse of the two at the largest budget, so both reach it, and what
each spends to it is read off its own curve of budgets; every budget is a run of its own, whose
schedule ends there. Seconds of a core are the run's joules over the stated watts of a core: time
that other work on the machine took is not in them. Prints the table in Markdown and writes the
figure beside it; another study's table may be named.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.equal_loss import geometric, spent
from experiments.means import ALL, means_of
from experiments.tables import finished, refuse
from glam.analysis.paired import interval
from glam.config import RunConfig
from glam.machine.energy import WATTS_PER_CORE
from glam.reporting.theme import PRINT, log_axis, panels, save

FOLDER = Path(__file__).parent
DENSE, SPARSE = 1, 16
MEASURES = ("training tokens", "training FLOPs", "seconds of one core")


class Run(NamedTuple):
    experts: int
    seed: int
    spent: tuple[float, ...]  # by MEASURES
    losses: dict[str, float]  # by what they are means of, nats per token


def read(file: Path) -> list[Run]:
    """Of the finished cells, by tokens."""
    rows = finished(file, "seed", "model.num_experts", "tokens", "joules", "loss/mean")
    rows.sort(key=lambda row: int(row["tokens"]))
    found: list[Run] = []
    for row, losses in zip(rows, means_of(rows), strict=True):
        experts, tokens = int(row["model.num_experts"]), int(row["tokens"])
        seconds = float(row["joules"]) / WATTS_PER_CORE
        budget = (tokens, 3 * _forward(experts) * tokens, seconds)
        found.append(Run(experts, int(row["seed"]), budget, losses))
    return found


def _forward(experts: int) -> int:
    default = RunConfig()
    model = dataclasses.replace(default.model, num_experts=experts)
    return dataclasses.replace(default, model=model).flops_per_token


def ratios(runs: Sequence[Run], over: str, measure: int) -> list[float]:
    """What the sparse model spends over what the dense one does, by seed."""
    found: list[float] = []
    for seed in sorted({run.seed for run in runs}):
        dense, sparse = (
            [run for run in runs if run.seed == seed and run.experts == experts]
            for experts in (DENSE, SPARSE)
        )
        loss = max(dense[-1].losses[over], sparse[-1].losses[over])
        of = [
            spent(loss, [run.spent[measure] for run in mine], [run.losses[over] for run in mine])
            for mine in (dense, sparse)
        ]
        found.append(of[1] / of[0])
    return found


def table(runs: Sequence[Run]) -> str:
    means = list(runs[0].losses)
    lines = ["| sparse over dense, to the same loss | " + " | ".join(means) + " |"]
    lines.append("| --- " * (1 + len(means)) + "|")
    for measure, name in enumerate(MEASURES):
        cells = [geometric(ratios(runs, over, measure)) for over in means]
        told = [f"{middle:.2f} ({low:.2f} to {high:.2f})" for middle, low, high in cells]
        lines.append(f"| {name} | {' | '.join(told)} |")
    return "\n".join(lines)


def figure(runs: Sequence[Run]) -> Figure:
    drawn, axes = panels(PRINT, len(MEASURES), size=(3.2, 3.0))
    for measure, (name, one) in enumerate(zip(MEASURES, axes, strict=True)):
        for index, (experts, label) in enumerate([(DENSE, "dense twin"), (SPARSE, "16 experts")]):
            x, y, errors = _curve([run for run in runs if run.experts == experts], measure)
            style = {"marker": "o", "markersize": 4, "capsize": 3, "color": PRINT.colour(index)}
            one.errorbar(x, y, errors, label=label, **style)
        log_axis(one)
        one.set_xlabel(name)
    axes[0].set_ylabel("held-out loss (nats per token)")
    axes[0].legend(fontsize=9, frameon=False, labelcolor=PRINT.ink)
    return drawn


def _curve(runs: Sequence[Run], measure: int) -> tuple[list[float], list[float], list[list[float]]]:
    """Geometric mean of what is spent, mean loss and half its interval, by budget of tokens."""
    x: list[float] = []
    y: list[float] = []
    errors: list[list[float]] = [[], []]
    for tokens in sorted({run.spent[0] for run in runs}):
        mine = [run for run in runs if run.spent[0] == tokens]
        losses = [run.losses[ALL] for run in mine]
        x.append(float(np.exp(np.mean(np.log([run.spent[measure] for run in mine])))))
        y.append(float(np.mean(losses)))
        low, high = interval(losses) or (y[-1], y[-1])
        errors[0].append(y[-1] - low)
        errors[1].append(high - y[-1])
    return x, y, errors


def main(argv: Sequence[str]) -> int:
    file = Path(argv[0]) if argv else FOLDER / "results.csv"
    runs = read(file)
    try:
        print(table(runs))
    except (ValueError, IndexError):
        refuse(f"{file}: dense and sparse curves share no loss; run more budgets of tokens")
    for name, content in save(figure(runs), "loss_by_budget", "moe_vs_dense").items():
        (file.parent / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
