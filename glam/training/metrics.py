"""metrics.csv: one wide row per log point, appended and flushed, and cut back on resume."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from glam.log import log
from glam.runs.folder import write_atomically

TRAINING_COLUMNS = (
    "step",
    "tokens",
    "train_seconds",
    "joules",
    "loss",
    "learning_rate",
    "tokens_per_second",
    "balance_loss",
    "grad_norm",
    "skipped",
)


def columns(
    sources: Sequence[str], domains: Sequence[str], moe_layers: Sequence[int], num_experts: int
) -> list[str]:
    """The header of a run: known before its first step."""
    return [
        *TRAINING_COLUMNS,
        *(f"loss/{source}" for source in sources),
        *(f"held_out/{domain}" for domain in domains),
        "held_out/mean",
        *(f"load/{layer}/{expert}" for layer in moe_layers for expert in range(num_experts)),
        *(f"dropped/{layer}" for layer in moe_layers),
    ]


class Metrics:
    """Writes nothing: of several processes that train one model, only the main one writes."""

    def cut_back(self, step: int) -> None:
        """Keep the rows up to `step`; later steps are trained and written again."""

    def write(self, row: Mapping[str, float]) -> None:
        """Append a row. Columns that it lacks, and those that are NaN, stay empty."""

    def sync(self) -> None:
        """Flush to the disk, before a checkpoint that relies on these rows."""


class MetricsFile(Metrics):
    """`metrics.csv`, open for writing."""

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        self.path, self.header = path, list(header)

    def cut_back(self, step: int) -> None:
        kept: list[Mapping[str, str]] = []
        if step > 0 and self.path.is_file():
            try:
                kept = self._rows(step)
            except (ValueError, KeyError, csv.Error):
                log.warning(f"{self.path.name} cannot be read; its curves start over")
        text = io.StringIO()
        writer = csv.DictWriter(text, self.header, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        write_atomically(self.path, text.getvalue())

    def _rows(self, step: int) -> list[Mapping[str, str]]:
        with self.path.open(newline="", encoding="utf-8") as lines:
            # A row torn by a power cut lacks its last cells.
            whole = (row for row in csv.DictReader(lines) if None not in row.values())
            return [row for row in whole if int(row["step"]) <= step]

    def write(self, row: Mapping[str, float]) -> None:
        assert not row.keys() - set(self.header), row.keys() - set(self.header)
        cells = [row.get(name) for name in self.header]
        with self.path.open("a", encoding="utf-8") as out:
            out.write(",".join("" if c is None or c != c else repr(c) for c in cells) + "\n")

    def sync(self) -> None:
        with self.path.open("a") as out:
            os.fsync(out.fileno())
