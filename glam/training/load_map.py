"""The experts' load over training as a picture, a layer each."""

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib.figure import Figure


def load_maps(metrics_file: Path) -> dict[str, Figure]:
    """By layer: x tokens, y expert, colour the expert's load over an even share."""
    with metrics_file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    by_layer: dict[str, list[str]] = defaultdict(list)
    for name in rows[0] if rows else ():
        if name.startswith("load/"):
            by_layer[name.split("/")[1]].append(name)
    figures: dict[str, Figure] = {}
    for layer, names in by_layer.items():
        measured = [row for row in rows if row[names[0]]]
        if measured:
            shares = np.array([[float(row[name]) for name in names] for row in measured])
            tokens = np.array([int(row["tokens"]) for row in measured])
            figures[layer] = _draw(layer, tokens, shares * len(names))
    return figures


def _draw(layer: str, tokens: np.ndarray, load: np.ndarray) -> Figure:
    """`load` is `[points, E]`."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes: Any = figure.subplots()
    extent = (0.0, float(tokens[-1]), -0.5, load.shape[1] - 0.5)
    image = axes.imshow(
        load.T, aspect="auto", origin="lower", extent=extent, vmin=0, vmax=2, cmap="RdBu_r"
    )
    axes.set(xlabel="tokens", ylabel="expert", title=f"layer {layer}: load / even share")
    cast(Any, figure).colorbar(image)
    return figure
