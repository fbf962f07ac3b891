"""`python -m experiments.energy.compare`: the energy that sparse models need for a loss that the
dense twin reaches too, from the table of experiments/equal_time.

For each seed the loss is the worse of the two at their longest budgets, so both reach it; their
seconds to it are drawn straight between budgets, in the logarithm. Energy is the seconds of
one core times the stated watts of a core, so its ratio is that of core seconds: this machine has no
counter. Writes results.csv and the figure.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.equal_loss import geometric, spent
from experiments.equal_time import compare
from experiments.equal_time.compare import DENSE, Run
from experiments.means import ALL, TRAINED_ON
from glam.machine.energy import WATTS_PER_CORE
from glam.reporting.theme import PRINT, panel, save

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.csv"
MEANS = (ALL, TRAINED_ON)
COLUMNS = ("over", "experts", "seed", "loss", "joules", "dense_joules")
PAPER = 456 / 1287  # MWh of 64B/64E over GPT-3's, at better quality


class Pair(NamedTuple):
    """A sparse run and its dense twin on the way to the same loss."""

    over: str  # which mean of the held-out losses
    experts: int
    seed: int
    loss: float
    seconds: float
    dense_seconds: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.dense_seconds


def pairs(runs: Sequence[Run]) -> list[Pair]:
    """Of every seed and number of experts."""
    made: list[Pair] = []
    for over in MEANS:
        for experts in compare.sparse(runs):
            for seed in sorted({run.seed for run in runs if run.experts == experts}):
                curves = [compare.curve(runs, of, seed, over) for of in (experts, DENSE)]
                loss = max(losses[-1] for _, losses in curves)
                took = [spent(loss, *curve) for curve in curves]
                made.append(Pair(over, experts, seed, loss, *took))
    return made


def main() -> int:
    made = pairs(compare.read(compare.FOLDER / "results.csv"))
    with RESULTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for pair in made:
            joules = [round(s * WATTS_PER_CORE, 1) for s in (pair.seconds, pair.dense_seconds)]
            writer.writerow([*pair[:3], f"{pair.loss:.4f}", *joules])
    for (over, experts), (middle, low, high) in summary(made).items():
        told = f"{middle:.2f} of the dense twin's energy ({low:.2f} to {high:.2f})"
        print(f"{over}, {experts} experts: {told}")
    for name, content in _figure(summary(made)).items():
        (FOLDER / name).write_bytes(content)
    return 0


def read(table: Path) -> list[Pair]:
    """What `main` wrote."""
    with table.open(newline="") as file:
        return [
            Pair(
                row["over"], int(row["experts"]), int(row["seed"]), float(row["loss"]),
                *(float(row[name]) / WATTS_PER_CORE for name in COLUMNS[-2:]),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def summary(made: Sequence[Pair]) -> dict[tuple[str, int], tuple[float, float, float]]:
    """The geometric mean of the ratios over the seeds and its 95 % interval, by which mean of the
    held-out losses and number of experts."""
    ratios: dict[tuple[str, int], list[float]] = {}
    for pair in made:
        ratios.setdefault(pair[:2], []).append(pair.ratio)
    return {key: geometric(values) for key, values in ratios.items()}


def _figure(told: dict[tuple[str, int], tuple[float, float, float]]) -> dict[str, bytes]:
    figure, axes = panel(PRINT, height=3.2)
    several = sorted({experts for _, experts in told})
    for index, over in enumerate(MEANS):
        rows = [told[over, experts] for experts in several]
        place = [x + 0.16 * (index - 0.5) for x in range(len(several))]
        errors = [[row[0] - row[1] for row in rows], [row[2] - row[0] for row in rows]]
        style = {"fmt": "o", "color": PRINT.colour(index), "capsize": 3}
        axes.errorbar(place, [row[0] for row in rows], errors, label=over, **style)
    axes.axhline(1, color=PRINT.muted, linewidth=0.8)
    axes.axhline(PAPER, color=PRINT.muted, linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(several)), [f"{experts} experts" for experts in several])
    axes.set_xlim(-0.5, len(several) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("energy to the same loss, dense = 1", fontsize=9)
    axes.legend(fontsize=8, frameon=False, labelcolor=PRINT.ink, loc="lower right")
    paper = "the paper: 64B/64E against GPT-3"
    style = {"textcoords": "offset points", "color": PRINT.muted, "fontsize": 8}
    axes.annotate(paper, (-0.45, PAPER), (0, 4), **style)
    return save(figure, "energy", "energy")


if __name__ == "__main__":
    sys.exit(main())
