"""The tables that studies leave, read for the scripts here."""

import csv
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from glam.errors import nearest

ENDED = ("done", "diverged")
NUMBERS = ("loss/", "load/", "tokens", "joules", "skipped_steps")


def finished(file: Path, *needed: str, status: tuple[str, ...] = ("done",)) -> list[dict[str, str]]:
    """Rows of the finished runs of a study's table. Raises SystemExit, with one line and status 2,
    for what is no such table, or lacks a column of `needed`."""
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
    except (OSError, ValueError, csv.Error) as error:
        why = getattr(error, "strerror", None) or "not a table in UTF-8"
        return refuse(f"{file} cannot be read ({why}); name the study.csv of a study")
    if any(None in row or None in row.values() for row in rows):
        return refuse(f"{file} has rows that are not as long as its head; name a study.csv")
    columns = list(rows[0]) if rows else []
    for name in ("status", *needed):
        if name not in columns:
            return refuse(f"{file} has no column {name}; {nearest(name, columns)}")
    found = [row for row in rows if row["status"] in status]
    for row in found:
        for name in needed:
            if name.startswith(NUMBERS) and not _is_number(row[name]):
                return refuse(f"{file}: {name} of run {row.get('run')} is {row[name]!r}, no number")
    return found or refuse(f"{file} has no finished run")


def write(file: Path, columns: Sequence[str], rows: Iterable[dict[str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def swept(rows: list[dict[str, str]]) -> list[str]:
    """The keys that the study sweeps: the columns before the run's id."""
    columns = list(rows[0])
    return columns[: columns.index("id")]


def domains(rows: list[dict[str, str]]) -> list[str]:
    """The columns of losses that all runs have: studies of other recipes have other domains."""
    return [name for name in rows[0] if name.startswith("loss/") and all(r[name] for r in rows)]


def _is_number(text: str | None) -> bool:
    try:
        return math.isfinite(float(text or ""))
    except ValueError:
        return False


def refuse(line: str) -> NoReturn:
    print(line, file=sys.stderr)
    raise SystemExit(2)
