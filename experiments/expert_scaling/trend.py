"""`python -m experiments.expert_scaling.trend <study.csv>`: what a doubling of the experts brings.

For every seed, a straight line of the loss over log2 of the number of experts, the dense twin as
one expert; the mean of its slope over the seeds and the 95 % t interval, in nats per doubling, for
each of the other keys that the study sweeps. A last column says how many of the steps from one
number of experts to the next lower the mean loss. Prints a table in Markdown.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.paired import fixed_keys
from experiments.tables import domains, finished, refuse
from glam.analysis.paired import EXPERTS, interval
from glam.units import signed


def slope(rows: Sequence[dict[str, str]], column: str) -> float:
    """Of one seed's runs, in nats per doubling."""
    doublings = np.log2([float(row[EXPERTS]) for row in rows])
    losses = np.array([float(row[column]) for row in rows])
    return float(np.polynomial.Polynomial.fit(doublings, losses, 1).convert().coef[1])


def falling(rows: Sequence[dict[str, str]]) -> str:
    """Steps of the mean loss that go down, of all."""
    counts = sorted({float(row[EXPERTS]) for row in rows})
    means = [
        np.mean([float(row["loss/mean"]) for row in rows if float(row[EXPERTS]) == count])
        for count in counts
    ]
    return f"{int((np.diff(means) < 0).sum())} of {len(counts) - 1}"


class Line(NamedTuple):
    """Runs of all numbers of experts, by seed, at the same values of the other swept keys."""

    fixed: tuple[str, ...]
    by_seed: list[list[dict[str, str]]]

    def slopes(self, column: str) -> list[float]:
        """One a seed."""
        return [slope(seed, column) for seed in self.by_seed]


def lines_of(rows: list[dict[str, str]], file: Path) -> list[Line]:
    """Seeds that lack a number of experts are left out. Raises SystemExit for what has no line."""
    others = fixed_keys(rows, [EXPERTS])
    found: list[Line] = []
    for fixed in dict.fromkeys(tuple(row[key] for key in others) for row in rows):
        mine = [row for row in rows if tuple(row[key] for key in others) == fixed]
        by_seed = [[r for r in mine if r["seed"] == s] for s in sorted({r["seed"] for r in mine})]
        whole = max(len(seed) for seed in by_seed)
        if whole < 2:
            where = ", ".join(fixed) or "all"
            refuse(f"{file} has one number of experts for {where}; two make a line")
        found.append(Line(fixed, [seed for seed in by_seed if len(seed) == whole]))
    return found


def table(file: Path) -> str:
    rows = finished(file, EXPERTS, "seed", "id", "loss/mean")
    columns = domains(rows)
    names = [column.removeprefix("loss/") for column in columns]
    others = ", ".join(fixed_keys(rows, [EXPERTS])) or "study"
    lines = [f"| {others} | seeds | {' | '.join(names)} | steps down |"]
    lines.append("| --- " * (len(names) + 3) + "|")
    for line in lines_of(rows, file):
        texts: list[str] = []
        for column in columns:
            slopes = line.slopes(column)
            around = interval(slopes)
            span = "" if around is None else f" ({signed(around[0], 4)}, {signed(around[1], 4)})"
            texts.append(signed(float(np.mean(slopes)), 4) + span)
        kept = [row for seed in line.by_seed for row in seed]
        cells = [", ".join(line.fixed) or "all", f"{len(line.by_seed)}", *texts, falling(kept)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> str:
    """Raises SystemExit, with one line and status 2, for what has no line."""
    if len(arguments) != 1:
        return refuse("one argument is needed: <study.csv>")
    return table(Path(arguments[0]))


if __name__ == "__main__":
    print(main(sys.argv[1:]))
