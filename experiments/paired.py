"""Paired differences in a study's table: `python -m experiments.paired <study.csv> <key> <value>`.

Prints a table in Markdown: loss of every value of `key` minus that of the baseline `value` with the
same seed and all else equal, mean and 95 % t interval, for the mean and for each domain. Several
keys, with as many values, are joined by commas: `optimizer,optimizer.learning_rate adamw,0.012`
holds every pair of them against that one. A star marks a difference that is significant at 5 %
after Holm's correction, over all domains and values of the table; the mean over the domains, the
one question asked beforehand, is corrected over the values alone. The page of a study tests its
differences by the same function, `glam.analysis.paired.corrected`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.tables import domains, finished, refuse, swept
from glam.analysis.paired import corrected, interval
from glam.units import signed

Pairs = dict[tuple[str, str], list[float]]  # (value, domain): a difference a seed


class Cell(NamedTuple):
    """What is compared: a value of the keys (several joined by commas), and the values of the other
    swept keys but the seed, which it shares with its baseline."""

    value: str
    fixed: tuple[str, ...] = ()


def pairs_of(file: Path, key: str, baseline: str) -> Pairs:
    """Raises SystemExit for a table that is none of a study, or has no such key."""
    keys = key.split(",")
    rows = finished(file, *keys, "seed", "id", "loss/mean")
    others = fixed_keys(rows, keys)
    found: Pairs = {}
    for (cell, domain), differences in paired(rows, keys, baseline, domains(rows)).items():
        fixed = ", ".join(f"{o} {v}" for o, v in zip(others, cell.fixed, strict=True))
        found[cell.value.replace(",", ", ") + (f" ({fixed})" if fixed else ""), domain] = (
            differences
        )
    return found


def fixed_keys(rows: list[dict[str, str]], keys: Sequence[str]) -> list[str]:
    """The other keys that the study sweeps, but the seed."""
    return [name for name in swept(rows) if name not in (*keys, "seed")]


def paired(
    rows: list[dict[str, str]], keys: Sequence[str], baseline: str, columns: Sequence[str]
) -> dict[tuple[Cell, str], list[float]]:
    """By what is compared and by column: its number less that of the baseline with the same seed
    and all else equal, one a seed."""
    others = fixed_keys(rows, keys)
    # As `study.baseline` is: YAML's true is the table's True.
    same = [row for row in rows if value_of(row, keys).lower() == baseline.lower()]
    against = {tuple(r[o] for o in (*others, "seed")): r for r in same}
    found: dict[tuple[Cell, str], list[float]] = {}
    for row in rows:
        twin = against.get(tuple(row[other] for other in (*others, "seed")))
        if twin is None or twin is row:
            continue
        cell = Cell(value_of(row, keys), tuple(row[other] for other in others))
        for column in columns:
            found.setdefault((cell, column), []).append(float(row[column]) - float(twin[column]))
    return found


def value_of(row: dict[str, str], keys: Sequence[str]) -> str:
    return ",".join(row[key] for key in keys)


def table(found: Pairs) -> str:
    values = list(dict.fromkeys(value for value, _ in found))
    columns = list(dict.fromkeys(domain for _, domain in found))
    tested = corrected(found)
    names = [domain.removeprefix("loss/") for domain in columns]
    lines = [f"| | seeds | {' | '.join(names)} |", "| --- " * (len(names) + 2) + "|"]
    for value in values:
        texts = [str(len(found[value, columns[0]]))]
        for domain in columns:
            differences = found[value, domain]
            text = signed(float(np.mean(differences)))
            if (around := interval(differences)) is not None:
                text += f" ({signed(around[0])}, {signed(around[1])})"
            texts.append(f"{text}{'*' if tested[value, domain].is_significant else ''}")
        lines.append(f"| {value} | {' | '.join(texts)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> str:
    """Raises SystemExit, with one line and status 2, for what cannot be compared."""
    if len(arguments) != 3:
        return refuse("three arguments are needed: <study.csv> <key> <value>")
    file, key, baseline = arguments
    found = pairs_of(Path(file), key, baseline)
    if not found:
        keys = key.split(",")
        rows = finished(Path(file), *keys)
        values = " ".join(dict.fromkeys(value_of(row, keys) for row in rows))
        return refuse(f"{file} has no pair with {key}={baseline}; it has {values}")
    return table(found)


if __name__ == "__main__":
    print(main(sys.argv[1:]))
