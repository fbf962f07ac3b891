"""`python -m experiments.energy.compare`: the energy that sparse models need for the dense twin's
held-out loss, from the runs of experiments/equal_time.

For each seed the sparse model's loss is drawn straight between its budgets, in the logarithm of
seconds, and met with the dense twin's loss at its longest budget. Energy is the seconds of one core
times the stated watts of a core, so its ratio is that of core seconds: this machine has no counter.
Writes results.csv and the figure.
"""

import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.equal_time.study import BUDGETS, EXPERTS, Row, read
from glam.accounting.energy import WATTS_PER_CORE
from glam.reporting.cells import interval
from glam.reporting.theme import PRINT, panel, save

FOLDER = Path(__file__).parent
PAPER = 456 / 1287  # MWh of 64B/64E over GPT-3's, at better quality


def seconds_to_reach(found: Sequence[Row], experts: int, seed: int) -> float:
    """Of the sparse model, to the dense twin's loss of the same seed; NaN where not reached."""
    losses = {(row.budget, row.experts): row.loss["mean"] for row in found if row.seed == seed}
    budgets = sorted(BUDGETS)
    wanted = losses[budgets[-1], 1]
    mine = [losses[budget, experts] for budget in budgets]
    if not mine[-1] <= wanted <= mine[0]:
        return math.nan
    return float(np.exp(np.interp(-wanted, [-loss for loss in mine], np.log(budgets))))


def ratios(found: Sequence[Row], experts: int) -> list[float]:
    """Of energy, sparse over dense, by seed."""
    seeds = sorted({row.seed for row in found})
    return [seconds_to_reach(found, experts, seed) / max(BUDGETS) for seed in seeds]


def main() -> int:
    found = read()
    if not found:
        print("experiments/equal_time/results.csv is empty; run its study first", file=sys.stderr)
        return 2
    rows: list[tuple[int, float, float, float]] = []
    with (FOLDER / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["experts", "seed", "seconds", "joules", "ratio_to_dense"])
        for experts in EXPERTS[1:]:
            by_seed = ratios(found, experts)
            for seed, ratio in enumerate(by_seed):
                seconds = ratio * max(BUDGETS)
                joules = seconds * WATTS_PER_CORE
                writer.writerow([experts, seed, f"{seconds:.1f}", f"{joules:.0f}", f"{ratio:.3f}"])
            logs = [math.log(ratio) for ratio in by_seed if not math.isnan(ratio)]
            low, high = interval(logs) or (math.nan, math.nan)
            rows.append((experts, *(math.exp(x) for x in (float(np.mean(logs)), low, high))))
            print(
                f"E {experts}: {rows[-1][1]:.2f} of the dense twin's energy "
                f"({rows[-1][2]:.2f} to {rows[-1][3]:.2f}; {len(logs)} of {len(by_seed)} seeds)"
            )
    for name, content in _figure(rows).items():
        (FOLDER / name).write_bytes(content)
    return 0


def _figure(rows: Sequence[tuple[int, float, float, float]]) -> dict[str, bytes]:
    figure, axes = panel(PRINT, width=5, height=2.6)
    place = range(len(rows))
    means = [row[1] for row in rows]
    errors = [[m - row[2] for m, row in zip(means, rows, strict=True)]]
    errors.append([row[3] - m for m, row in zip(means, rows, strict=True)])
    axes.errorbar(place, means, errors, fmt="o", color=PRINT.colour(0), capsize=3)
    for x, mean in zip(place, means, strict=True):
        axes.annotate(f"{mean:.2f}", (x, mean), (8, 0), textcoords="offset points", fontsize=9)
    axes.axhline(1, color=PRINT.muted, linewidth=0.8)
    axes.axhline(PAPER, color=PRINT.colour(1), linewidth=0.8, linestyle="--")
    axes.annotate(
        "the paper, 64B/64E against GPT-3",
        (0, PAPER),
        (0, 4),
        textcoords="offset points",
        color=PRINT.colour(1),
        fontsize=8,
    )
    axes.set_xticks(place, [f"{row[0]} experts" for row in rows])
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set_ylim(0, 1.15)
    axes.set_ylabel("energy, dense = 1")
    return save(figure, "energy", "energy")


if __name__ == "__main__":
    sys.exit(main())
