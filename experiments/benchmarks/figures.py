"""One figure per benchmark, from its rows."""

import math
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes

from glam.reporting.theme import PRINT, panel

Row = dict[str, object]


def draw(name: str, rows: list[Row], folder: Path) -> None:
    title, group, series, value = FIGURES[name]
    figure, axes = panel(PRINT, width=8, height=0.9 + 0.19 * len(rows))
    _bars(axes, rows, group, series, value)
    axes.set_title(title, fontsize=10, loc="left", color=PRINT.ink)
    figure.savefig(folder / f"{name}.png", dpi=150)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def _number(row: Row, key: str) -> float:
    value = row.get(key)
    return float(value) if isinstance(value, int | float) else math.nan


def _bars(
    axes: Axes, rows: list[Row], group: tuple[str, ...], series: Callable[[Row], str], value: str
) -> None:
    """A bar a row, in groups from top to bottom; whiskers where the row has quartiles."""
    names = list(dict.fromkeys(series(row) for row in rows))
    place, before, ticks, labels = 0.0, None, list[float](), list[str]()
    for row in rows:
        label = ", ".join(str(row[key]) for key in group)
        place += 1.0 if label == before else 1.8
        middle = _number(row, value)
        errors, end = None, middle
        if value == "ratio":
            end = max(middle, _number(row, "high"))
            errors = [[middle - _number(row, "low")], [_number(row, "high") - middle]]
        colour = PRINT.colour(names.index(series(row)))
        axes.barh(place, middle, 0.8, xerr=errors, color=colour, ecolor=PRINT.ink)
        axes.text(end, place, f"  {middle:.3g}", va="center", fontsize=7, color=PRINT.ink)
        ticks.append(place)
        labels.append(f"{label}: {series(row)}" if label and label != before else series(row))
        before = label
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    if value == "ratio":
        axes.axvline(1, color=PRINT.muted, linewidth=0.8)
        axes.set_xlabel("time, times the reference's (median of pairs, quartiles)")
    else:
        axes.set_xlabel(value)


def _candidate(row: Row) -> str:
    return str(row["candidate"])


FIGURES: dict[str, tuple[str, tuple[str, ...], Callable[[Row], str], str]] = {
    "layer": ("One MoE layer, against the dense limit", ("shape", "dtype"), _candidate, "ratio"),
    "step": ("A training step", ("size", "dtype"), _candidate, "ratio"),
    "attention": (
        "Attention with a trainable bias, against SDPA without",
        ("length", "dtype"),
        _candidate,
        "ratio",
    ),
    "loss": (
        "Output and cross-entropy, against the products alone",
        ("vocabulary", "dtype"),
        _candidate,
        "ratio",
    ),
    "optimizer": ("One update, against fused AdamW", ("model",), _candidate, "ratio"),
    "avx2": (
        "A step in float32, as on a processor with AVX2 alone",
        ("size",),
        lambda row: str(row["candidate"]),
        "ratio",
    ),
    "kernels": (
        "A step with our kernels, against torch's operators",
        ("model", "dtype"),
        _candidate,
        "ratio",
    ),
    "generation": (
        "Writing text: seconds a token",
        ("model", "dtype", "batch"),
        _candidate,
        "ratio",
    ),
    "threads": (
        "Two threads against one, by wall-clock time",
        ("size",),
        lambda row: f"{row['threads']} threads",
        "ratio",
    ),
    "pipeline": (
        "Preparing the embedded corpora",
        (),
        lambda row: str(row["stage"]),
        "cpu_s",
    ),
    "scores": ("Scoring pages, against scikit-learn", ("ngrams",), _candidate, "ratio"),
    "tokens": ("Text to tokens, against SentencePiece", ("vocabulary",), _candidate, "ratio"),
    "overhead": ("What is not training", ("unit",), lambda row: str(row["what"]), "value"),
    "copies": ("Copies: CPU microseconds a page", ("task",), _candidate, "us_a_document"),
    "recipe": ("From files to tokens: MB a second of a core", ("task",), _candidate, "MB/s"),
}
