"""The means of held-out loss that studies of the embedded text tell."""

from collections.abc import Sequence

import numpy as np

from experiments.tables import domains
from glam.data.sources import EMBEDDED

ALL, TRAINED_ON = "all domains", "domains of the training text"
HELD_OUT = {source.name for source in EMBEDDED if source.role == "held_out"}


def means_of(rows: Sequence[dict[str, str]]) -> list[dict[str, float]]:
    """Of every finished run: over all domains, and over those of which the recipe trains on text
    like it; nats per token."""
    names = [name for name in domains(list(rows)) if _is_of_training_text(name)]
    return [
        {ALL: float(row["loss/mean"]), TRAINED_ON: float(np.mean([float(row[n]) for n in names]))}
        for row in rows
    ]


def _is_of_training_text(column: str) -> bool:
    return column.removeprefix("loss/") not in {"mean", *HELD_OUT}
