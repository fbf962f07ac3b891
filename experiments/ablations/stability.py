"""`python -m experiments.ablations.stability <study.csv> <key> …`: how evenly the experts were used
and how steadily the loss fell, for every value of the keys. The runs of the study must be there
still, in the folder that the table lies in or in `runs=<folder>`: spikes are read from their
curves. Prints a table in Markdown; `to=<file>` keeps it as CSV too, which `as_markdown` reads.

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

from experiments.tables import ENDED, finished, refuse, write

RISE = 0.3  # nats per token; points move by about 0.1 by chance
BEFORE = 5  # points
LOAD = re.compile(r"load/\d+/\d+")
LOADS = ("busiest", "throughout", "idlest", "no slot")
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


def rows(study: Path, runs: Path, keys: Sequence[str]) -> list[dict[str, str]]:
    """One for every value of the keys, by the heads of the table."""
    load_of = [f"load/{name}" for name in ("busiest", "idlest", "dropped")]
    ended = finished(study, *keys, *load_of, "skipped_steps", "run", status=ENDED)
    head = [*keys, "runs", *LOADS, *LAST]
    found: list[dict[str, str]] = []
    for value in dict.fromkeys(tuple(row[key] for key in keys) for row in ended):
        mine = [row for row in ended if tuple(row[key] for key in keys) == value]
        load = [np.mean([float(row[name]) for row in mine]) for name in load_of]
        points = [metrics(runs / row["run"]) for row in mine]
        risen = sum(spikes(curve(rows)) for rows in points)
        always = np.mean([throughout(rows) for rows in points])
        skipped = sum(int(row["skipped_steps"]) for row in mine)
        diverged = sum(row["status"] == "diverged" for row in mine)
        told = [f"{load[0]:.2f}", f"{always:.2f}", f"{load[1]:.2f}", f"{100 * load[2]:.1f} %"]
        cells = [*value, len(mine), *told, risen, skipped, diverged]
        found.append(dict(zip(head, map(str, cells), strict=True)))
    return found


def as_markdown(found: Sequence[dict[str, str]]) -> str:
    """The keys in one column."""
    keys = [name for name in found[0] if name not in ("runs", *LOADS, *LAST)]
    others = [name for name in found[0] if name not in keys]
    lines = [f"| {' | '.join([', '.join(keys), *others])} |", "| --- " * (len(others) + 1) + "|"]
    for row in found:
        cells = [", ".join(row[key] for key in keys), *(row[name] for name in others)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def table(study: Path, *keys: str) -> str:
    return as_markdown(rows(study, study.parent.parent.parent, keys))


def main(argv: Sequence[str]) -> int:
    places = dict(word.split("=", 1) for word in argv if word.startswith(("runs=", "to=")))
    words = [word for word in argv if not word.startswith(("runs=", "to="))]
    if len(words) < 2:
        usage = "python -m experiments.ablations.stability runs/studies/<name>/study.csv <key> …"
        refuse(f"usage: {usage}")
    study = Path(words[0])
    runs = Path(places["runs"]) if "runs" in places else study.parent.parent.parent
    found = rows(study, runs, words[1:])
    if "to" in places:
        write(Path(places["to"]), list(found[0]), found)
    print(as_markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
