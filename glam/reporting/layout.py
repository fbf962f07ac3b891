"""A layout table, resolved against its model, as rows of text."""

from collections.abc import Sequence
from typing import Any

from glam.units import DASH, si

NAMES = ("weight", "layers", "shape", "split by", "in all")


def rows(layout: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A weight each, as NAMES says."""
    return [
        [
            str(row["weight"]),
            str(row["layers"]),
            " x ".join(f"{size:,}" for size in row["shape"]),
            ", ".join(axis or DASH for axis in row["axes"]),
            si(row["bytes"], "B"),
        ]
        for row in layout
    ]
