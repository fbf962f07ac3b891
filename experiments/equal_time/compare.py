"""`python -m experiments.equal_time.compare`: held-out loss of sparse models less the dense twin's
after equal seconds of one core, and from when on it is lower, from results.csv.

Every budget of seconds is a run of its own, whose schedule ends there. Its tokens are from a timing
of a few steps before the study. What the runs themselves needed decides: the seconds of a run are
its tokens over the median throughput of all runs with as many experts, and a loss at some seconds
lies on the line between the seed's runs, in the logarithm of seconds. Prints the table in Markdown
and writes the figure beside it; another study's table may be named.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.means import ALL, TRAINED_ON, means_of
from experiments.tables import domains, finished, refuse
from glam.analysis.paired import EXPERTS, interval
from glam.reporting.theme import PRINT, panels, save
from glam.units import fixed, signed

FOLDER = Path(__file__).parent
SECONDS, DENSE = "training.seconds", 1
DRAWS = 2000  # of the bootstrap
Curve = list[list[float]]  # rising seconds, and losses


class Run(NamedTuple):
    """What one was given, and its held-out losses, nats per token, by domain and by mean."""

    budget: float  # seconds, as they were asked for
    experts: int
    seed: int
    tokens: int
    throughput: float  # tokens per second of the clock
    losses: dict[str, float]


def read(file: Path) -> list[Run]:
    """The finished runs. Raises SystemExit, with one line and status 2, for another table."""
    rows = finished(file, SECONDS, EXPERTS, "seed", "tokens", "tokens_per_second", "loss/mean")
    names = [name for name in domains(rows) if name != "loss/mean"]
    found: list[Run] = []
    for row, means in zip(rows, means_of(rows), strict=True):
        given = int(row[EXPERTS]), int(row["seed"]), int(row["tokens"])
        losses = {name.removeprefix("loss/"): float(row[name]) for name in names}
        throughput = float(row["tokens_per_second"])
        found.append(Run(float(row[SECONDS]), *given, throughput, means | losses))
    return found


def budgets_of(runs: Sequence[Run]) -> list[float]:
    """Seconds, rising."""
    return sorted({run.budget for run in runs})


def sparse(runs: Sequence[Run]) -> list[int]:
    return sorted({run.experts for run in runs} - {DENSE})


def paces(runs: Sequence[Run]) -> dict[int, float]:
    """Tokens per second by number of experts: the median of the runs."""
    return {
        of: float(np.median([run.throughput for run in runs if run.experts == of]))
        for of in (DENSE, *sparse(runs))
    }


def curve(runs: Sequence[Run], experts: int, seed: int, over: str) -> Curve:
    """Seconds, rising, and the losses after them."""
    pace = paces(runs)[experts]
    mine = [run for run in runs if (run.experts, run.seed) == (experts, seed)]
    return [
        list(values)
        for values in zip(
            *sorted((run.tokens / pace, run.losses[over]) for run in mine), strict=True
        )
    ]


def loss_after(seconds: float, curve: Curve) -> float:
    """On the line between the two runs on either side, or through the last two at an end."""
    x, y = np.log(curve[0]), curve[1]
    if len(x) == 1:
        return y[0]
    right = int(np.clip(np.searchsorted(x, math.log(seconds)), 1, len(x) - 1))
    slope = (y[right] - y[right - 1]) / (x[right] - x[right - 1])
    return float(y[right] + slope * (math.log(seconds) - x[right]))


def differences(runs: Sequence[Run], seconds: float, experts: int, over: str) -> list[float]:
    """To the dense twin of the same seed, nats."""
    seeds = [{run.seed for run in runs if run.experts == of} for of in (experts, DENSE)]
    return [
        loss_after(seconds, curve(runs, experts, seed, over))
        - loss_after(seconds, curve(runs, DENSE, seed, over))
        for seed in sorted(seeds[0] & seeds[1])
    ]


def overtakes(runs: Sequence[Run], experts: int, over: str) -> str:
    """Where the mean difference to dense, straight between the budgets in the logarithm of
    seconds, falls below zero for good; the 95 % interval by bootstrap over the seeds."""
    budgets = budgets_of(runs)
    table = np.array([differences(runs, seconds, experts, over) for seconds in budgets])
    draws = np.random.default_rng(0).integers(0, table.shape[1], (DRAWS, table.shape[1]))
    where = [_crossing(budgets, table[:, draw].mean(axis=1)) for draw in draws]
    low, high = np.quantile(where, [0.025, 0.975], method="nearest")
    found = (_crossing(budgets, table.mean(axis=1)), low, high)
    middle, low, high = (_told(float(one), budgets) for one in found)
    return middle if middle == low == high else f"{middle} ({low} to {high})"


def _crossing(budgets: Sequence[float], difference: np.ndarray) -> float:
    """0 where it is below zero at every budget, infinity where it is not at the last."""
    above = np.flatnonzero(difference >= 0)
    if len(above) == 0:
        return 0.0
    last = above[-1]
    if last == len(budgets) - 1:
        return math.inf
    left, right = difference[last : last + 2]
    x = np.log(budgets)
    return float(np.exp(x[last] + (x[last + 1] - x[last]) * left / (left - right)))


def _told(seconds: float, budgets: Sequence[float]) -> str:
    if seconds == 0:
        return f"under {budgets[0]:g} s"
    return f"{seconds:.0f} s" if math.isfinite(seconds) else f"over {budgets[-1]:g} s"


def table(runs: Sequence[Run]) -> str:
    """A row for each mean and number of experts, a column for each budget."""
    budgets = budgets_of(runs)
    head = ["mean of", "experts", *(f"{seconds:g} s" for seconds in budgets), "ahead from"]
    lines = [head, ["---"] * len(head)]
    for over in (ALL, TRAINED_ON):
        for experts in sparse(runs):
            cells = [cell(differences(runs, seconds, experts, over)) for seconds in budgets]
            lines.append([over, str(experts), *cells, overtakes(runs, experts, over)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(values: Sequence[float]) -> str:
    """Mean and interval of differences, in bold where all of it favours the experts."""
    middle = signed(float(np.mean(values)))
    if (around := interval(values)) is None:
        return middle
    told = f"{middle} ({signed(around[0])}, {signed(around[1])})"
    return f"**{told}**" if around[1] < 0 else told


def half_width(values: Sequence[float]) -> float:
    """Of the interval; nan of one seed."""
    low, high = interval(values) or (math.nan, math.nan)
    return (high - low) / 2


def pace_table(runs: Sequence[Run]) -> str:
    """What the runs needed: throughput by number of experts, and the seconds of the longest."""
    longest = budgets_of(runs)[-1]
    head = ["experts", "tokens a second", "over the dense twin's", f"runs of {longest:g} s took"]
    lines = [head, ["---"] * len(head)]
    found = paces(runs)
    for experts, pace in found.items():
        tokens = [run.tokens for run in runs if run[:2] == (longest, experts)]
        told = f"{fixed(pace / 1000, 1)} thousand", fixed(pace / found[DENSE], 2)
        lines.append([str(experts), *told, f"{np.mean(tokens) / pace:.0f} s"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(runs: Sequence[Run]) -> Figure:
    """The difference to the dense twin against seconds, of every number of experts."""
    drawn, axes = panels(PRINT, 2, size=(4.2, 3.2))
    for over, one in zip((ALL, TRAINED_ON), axes, strict=True):
        _panel(one, runs, over)
        one.set_title(over, fontsize=10, loc="left", color=PRINT.ink)
    axes[0].set_ylabel("loss, less the dense twin's (nats per token)", fontsize=9)
    axes[0].legend(fontsize=8, frameon=False, labelcolor=PRINT.ink)
    return drawn


def _panel(axes: Axes, runs: Sequence[Run], over: str) -> None:
    budgets, several = budgets_of(runs), sparse(runs)
    axes.set_xscale("log")
    axes.set_xticks(budgets, [f"{seconds:g} s" for seconds in budgets])
    axes.minorticks_off()
    axes.axhline(0, color=PRINT.muted, linewidth=0.8)
    for index, experts in enumerate(several):
        paired = [differences(runs, seconds, experts, over) for seconds in budgets]
        means = [float(np.mean(values)) for values in paired]
        halves = [half_width(values) for values in paired]
        moved = [seconds * 1.04 ** (index - 1) for seconds in budgets]  # side by side
        style = {"color": PRINT.colour(index + 1), "marker": "o", "markersize": 4, "capsize": 3}
        axes.errorbar(moved, means, halves, label=f"{experts} experts", **style)


def main(argv: Sequence[str]) -> int:
    file = Path(argv[0]) if argv else FOLDER / "results.csv"
    runs = read(file)
    if DENSE not in {run.experts for run in runs} or not sparse(runs):
        refuse(f"{file} has no dense twin, or nothing beside it; run {EXPERTS}=1,8,16")
    print(table(runs), pace_table(runs), sep="\n\n")
    for name, content in save(figure(runs), "loss_by_seconds", "equal_time").items():
        (file.parent / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
