"""`python -m experiments.ablations.stability <study.csv> <key> …`: how evenly the experts were used
and how steadily the loss fell, for every value of the keys. The runs of the study must be there
still: spikes are read from their curves. Prints a table in Markdown.

Busiest and idlest expert are over the mean, of the layer where it is worst, at the end of training;
*throughout* is the busiest of each window between two evaluations, their mean over the run. A spike
is a point of the training loss (the mean of 20 steps) more than 0.3 nats above the mean of the five
points before it, after the first tenth of training, where the rate still rises.
"""

import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.tables import ENDED, finished, refuse

RISE = 0.3  # nats per token; points move by about 0.1 by chance
BEFORE = 5  # points
LOAD = re.compile(r"load/\d+/\d+")
LAST = ("spikes", "steps skipped", "diverged")
WARM_UP = 0.1  # of training


def spikes(losses: Sequence[float]) -> int:
    """Of a curve of training losses, one a point."""
    curve = np.asarray(losses, dtype=np.float64)
    first = max(BEFORE, int(WARM_UP * len(curve)))
    places = range(first, len(curve))
    return sum(bool(curve[i] > curve[i - BEFORE : i].mean() + RISE) for i in places)


def metrics(run: Path) -> list[dict[str, str]]:
    try:
        with (run / "metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        refuse(f"{run / 'metrics.csv'}: {error.strerror}; name the study.csv beside its runs")


def curve(rows: Sequence[dict[str, str]]) -> list[float]:
    return [float(row["loss"]) for row in rows if row["loss"]]


def throughout(rows: Sequence[dict[str, str]]) -> float:
    """The busiest expert over the mean, of the layer where it is worst, averaged over windows."""
    names = [name for name in rows[0] if LOAD.fullmatch(name)]
    experts = 1 + max(int(name.rpartition("/")[2]) for name in names)
    loads = [[float(row[name]) for name in names] for row in rows if row[names[0]]]
    return experts * float(np.mean([max(load) for load in loads]))


def table(study: Path, *keys: str) -> str:
    load_of = [f"load/{name}" for name in ("busiest", "idlest", "dropped")]
    rows = finished(study, *keys, *load_of, "skipped_steps", "run", status=ENDED)
    head = [", ".join(keys), "runs", "busiest", "throughout", "idlest", "no slot", *LAST]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for value in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        mine = [row for row in rows if tuple(row[key] for key in keys) == value]
        load = [np.mean([float(row[name]) for row in mine]) for name in load_of]
        runs = study.parent.parent.parent
        points = [metrics(runs / row["run"]) for row in mine]
        risen = sum(spikes(curve(rows)) for rows in points)
        always = np.mean([throughout(rows) for rows in points])
        skipped = sum(int(row["skipped_steps"]) for row in mine)
        diverged = sum(row["status"] == "diverged" for row in mine)
        told = [f"{load[0]:.2f}", f"{always:.2f}", f"{load[1]:.2f}", f"{100 * load[2]:.1f} %"]
        cells = [", ".join(value), len(mine), *told, risen, skipped, diverged]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    if len(argv) < 2:
        words = "python -m experiments.ablations.stability runs/studies/<name>/study.csv <key> …"
        refuse(f"usage: {words}")
    print(table(Path(argv[0]), *argv[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
