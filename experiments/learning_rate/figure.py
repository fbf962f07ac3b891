"""The best rate of each cell against training tokens, a colour for each size, and the rule."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments.learning_rate.fit import Optimum, Rule
from glam.reporting.theme import PRINT, log_axis, number_format, panel, save
from glam.units import si

MARKERS = {1: "o", 16: "^"}


def draw(found: Sequence[Optimum], rule: Rule, folder: Path) -> None:
    figure, axes = panel(PRINT, height=3.6)
    sizes = sorted({one.size for one in found})
    for place, size in enumerate(sizes):
        colour = PRINT.colour(place)
        mine = [one for one in found if one.size == size]
        ends = np.geomspace(min(o.tokens for o in mine), max(o.tokens for o in mine), 40)
        line = np.exp(rule.log_rate(np.full_like(ends, size), ends))
        axes.plot(ends, line, "-", color=colour, linewidth=1)
        for experts, marker in MARKERS.items():
            _points([one for one in mine if one.experts == experts], axes, colour, marker)
        axes.plot([], [], "-", color=colour, label=f"{si(size, '')} active parameters")
    for experts, marker in MARKERS.items():
        kind = "dense" if experts == 1 else f"{experts} experts"
        axes.plot([], [], marker, color=PRINT.muted, markersize=4, label=kind)
    log_axis(axes)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(number_format())
    axes.set_xlabel("training tokens")
    axes.set_ylabel("best peak learning rate")
    axes.legend(fontsize=7, frameon=False)
    for name, content in save(figure, "optima", "learning_rate").items():
        (folder / name).write_bytes(content)


def _points(found: Sequence[Optimum], axes: Axes, colour: str, marker: str) -> None:
    """The mean over seeds, and a bar from the least to the most."""
    for tokens in sorted({one.tokens for one in found}):
        rates = np.exp([one.log_rate for one in found if one.tokens == tokens])
        middle = float(np.exp(np.log(rates).mean()))
        beside = 0.97 if marker == "o" else 1.03
        error = [[middle - rates.min()], [rates.max() - middle]]
        axes.errorbar(
            tokens * beside,
            middle,
            yerr=error,
            fmt=marker,
            color=colour,
            markersize=4,
            elinewidth=1,
        )
