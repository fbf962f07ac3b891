"""`python -m experiments.energy.compare`: the energy that sparse models need for a loss that the
dense twin reaches too, from the runs of experiments/equal_time.

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

from matplotlib.figure import Figure

from experiments.equal_loss import geometric, spent
from experiments.equal_time import study, with_kernels
from experiments.equal_time.study import MEANS, Row, read
from glam.machine.energy import WATTS_PER_CORE
from glam.reporting.theme import PRINT, dress, save

FOLDER = Path(__file__).parent
PAPER = 456 / 1287  # MWh of 64B/64E over GPT-3's, at better quality
BEFORE = ", before the kernels"


class Pair(NamedTuple):
    """A sparse run and its dense twin on the way to the same loss."""

    runs: str  # their data, and which program trained them
    over: str  # which mean of the held-out losses
    experts: int
    seed: int
    loss: float
    seconds: float
    dense_seconds: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.dense_seconds


def pairs(runs: str, found: Sequence[Row]) -> list[Pair]:
    """Of every sparse run of the longest budget."""
    made: list[Pair] = []
    for over in MEANS:
        for experts in sorted({row.experts for row in found} - {1}):
            for seed in sorted({row.seed for row in found if row.experts == experts}):
                curves = [_curve(found, of, seed, over) for of in (experts, 1)]
                loss = max(losses[-1] for _, losses in curves)
                took = [spent(loss, *curve) for curve in curves]
                made.append(Pair(runs, over, experts, seed, loss, *took))
    return made


def _curve(
    found: Sequence[Row], experts: int, seed: int, over: str
) -> tuple[list[int], list[float]]:
    """Seconds, rising, and the losses after them."""
    mine = sorted((row.budget, row.loss[over]) for row in found if row[2:4] == (experts, seed))
    return [budget for budget, _ in mine], [loss for _, loss in mine]


def main() -> int:
    before = read(study.RESULTS)
    tables = {with_kernels.DATA: read(with_kernels.RESULTS)} | {
        data + BEFORE: [row for row in before if row.data == data] for data in study.STUDY
    }
    made = [pair for runs, found in tables.items() for pair in pairs(runs, found)]
    with (FOLDER / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*Pair._fields[:4], "loss", "joules", "dense_joules", "ratio_to_dense"])
        for pair in made:
            joules = [round(s * WATTS_PER_CORE) for s in (pair.seconds, pair.dense_seconds)]
            writer.writerow([*pair[:4], f"{pair.loss:.4f}", *joules, f"{pair.ratio:.3f}"])
    for (runs, over, experts), (middle, low, high) in summary(made).items():
        told = f"{middle:.2f} of the dense twin's energy ({low:.2f} to {high:.2f})"
        print(f"{runs}; {over}, E {experts}: {told}")
    for name, content in _figure(summary(made)).items():
        (FOLDER / name).write_bytes(content)
    return 0


def summary(made: Sequence[Pair]) -> dict[tuple[str, str, int], tuple[float, float, float]]:
    """The geometric mean of the ratios over the seeds and its 95 % interval."""
    ratios: dict[tuple[str, str, int], list[float]] = {}
    for pair in made:
        ratios.setdefault(pair[:3], []).append(pair.ratio)
    return {key: geometric(values) for key, values in ratios.items()}


def _figure(told: dict[tuple[str, str, int], tuple[float, float, float]]) -> dict[str, bytes]:
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    sizes = {runs: sorted({key[2] for key in told if key[0] == runs}) for runs, _, _ in told}
    panels = figure.subplots(1, len(sizes), sharey=True, width_ratios=[*map(len, sizes.values())])
    for axes, (runs, several) in zip(panels, sizes.items(), strict=True):
        dress(axes, PRINT)
        for index, over in enumerate(MEANS):
            rows = [told[runs, over, experts] for experts in several]
            place = [x + 0.16 * (index - 0.5) for x in range(len(several))]
            middle = [row[0] for row in rows]
            errors = [[row[0] - row[1] for row in rows], [row[2] - row[0] for row in rows]]
            style = {"fmt": "o", "color": PRINT.colour(index), "capsize": 3}
            label = "all five domains" if over == "mean" else "domains like the training text"
            axes.errorbar(place, middle, errors, label=label, **style)
        axes.axhline(1, color=PRINT.muted, linewidth=0.8)
        axes.axhline(PAPER, color=PRINT.muted, linewidth=0.8, linestyle="--")
        axes.set_xticks(range(len(several)), [f"{experts} experts" for experts in several])
        axes.set_xlim(-0.5, len(several) - 0.5)
        axes.set_title(runs.replace(", ", ",\n"), fontsize=10, loc="left", color=PRINT.ink)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("energy, dense = 1", fontsize=9)
    panels[0].legend(fontsize=8, frameon=False, labelcolor=PRINT.ink, loc="lower right")
    panels[0].annotate(
        "the paper: 64B/64E against GPT-3",
        (-0.45, PAPER),
        (0, 4),
        textcoords="offset points",
        color=PRINT.muted,
        fontsize=8,
    )
    return save(figure, "energy", "energy")


if __name__ == "__main__":
    sys.exit(main())
