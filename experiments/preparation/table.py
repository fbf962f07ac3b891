"""Rows of measurements in a CSV: those that are there are not measured again."""

import csv
from collections.abc import Mapping
from pathlib import Path

from glam.machine.processor import processor
from glam.machine.resources import num_cores

HERE = Path(__file__).parent
MACHINE = "processor"


class Table:
    """`<name>.csv` beside this file, read anew each time: several programs may add to it."""

    def __init__(self, name: str) -> None:
        self.path = HERE / f"{name}.csv"

    @property
    def rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open() as file:
            return list(csv.DictReader(file))

    def has(self, **key: object) -> bool:
        """Whether a row with these values is there. To measure it again, take its line out."""
        return any(_is_of(row, key) for row in self.rows)

    def add(self, row: Mapping[str, object]) -> None:
        """Keep a row, with the name of the processor."""
        texts = {name: _short(value) for name, value in row.items()}
        print(self.path.stem, *(f"{name}={text}" for name, text in texts.items()), flush=True)
        self._write([*self.rows, texts | {MACHINE: f"{processor().name}, {num_cores()} cores"}])

    def leave_out(self, **key: object) -> None:
        """Forget the rows with these values."""
        self._write([row for row in self.rows if not _is_of(row, key)])

    def _write(self, rows: list[dict[str, str]]) -> None:
        columns = list(dict.fromkeys(name for each in rows for name in each))
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _is_of(row: Mapping[str, str], key: Mapping[str, object]) -> bool:
    return {name: str(value) for name, value in key.items()}.items() <= row.items()


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
