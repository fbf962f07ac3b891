"""How figures look: one shape for the page, where the reader's light or dark mode colours them,
and one for paper."""
# matplotlib's stubs leave its keywords untyped.
# pyright: reportUnknownMemberType=false

import io
import re
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from glam.units import ticks

# The places of the embedded domains among a theme's colours: the same in every figure, whatever
# domains a run lacks.
KNOWN_DOMAINS = (
    *("speeches", "scripture", "wikipedia", "reviews", "tweets"),
    *("conversations", "dictionary"),
)
OTHER_PLACES = (7, 5, 6, 2, 1, 3, 4, 0)  # of other domains, first the one that no embedded one has


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours of a figure. `series` (after Okabe and Ito, distinct for the colour-blind) are of
    domains and other kinds of things; `scale`, from dark to light, is of the values of a key."""

    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]
    scale: tuple[str, ...]

    def colour(self, index: int) -> str:
        return self.series[index % len(self.series)]

    def domains(self, names: Iterable[str]) -> dict[str, str]:
        """A colour by domain, ink for "mean". Domains of other corpora take the colours that are
        left, in the order of their names, and start again where none is."""
        known = {name: i for i, name in enumerate(KNOWN_DOMAINS) if name in set(names)}
        left = [i for i in OTHER_PLACES if i not in known.values()]
        others = sorted(set(names) - set(known) - {"mean"})
        places = known | {name: left[i % len(left)] for i, name in enumerate(others)}
        return {"mean": self.ink} | {name: self.series[place] for name, place in places.items()}

    def value(self, index: int, count: int) -> str:
        """The colour of the value `index` of `count`, in order."""
        return self.scale[round(index * (len(self.scale) - 1) / max(count - 1, 1))]


PRINT = Theme(
    ink="#16181d",
    muted="#59606b",
    grid="#e1e4e8",
    series=("#0072b2", "#d55e00", "#009e73", "#b8579a", "#b07d00", "#4a90c8", "#7a5c3e", "#6a51a3"),
    scale=("#2c1a6b", "#6a1f9c", "#a1288f", "#cc4678", "#e56b5d", "#ee8f3c", "#d9ac1e"),
)
# Colours nobody would choose, each replaced in the SVG by the page's variable of that name.
PAGE = Theme(
    ink="#010203",
    muted="#010204",
    grid="#010205",
    series=tuple(f"#01030{i}" for i in range(len(PRINT.series))),
    scale=tuple(f"#01040{i}" for i in range(len(PRINT.scale))),
)
VARIABLES = {
    PAGE.ink: "var(--ink)",
    PAGE.muted: "var(--muted)",
    PAGE.grid: "var(--rule)",
    **{colour: f"var(--c{i})" for i, colour in enumerate(PAGE.series)},
    **{colour: f"var(--v{i})" for i, colour in enumerate(PAGE.scale)},
}

# Blue below, orange above, and nothing between: the page shows through, white or black.
BALANCE = LinearSegmentedColormap.from_list(
    "balance",
    [
        (0.0, (0.05, 0.38, 0.70, 1.0)),
        (0.25, (0.15, 0.50, 0.80, 0.62)),
        (0.5, (0.50, 0.50, 0.50, 0.0)),
        (0.75, (0.90, 0.48, 0.12, 0.68)),
        (1.0, (0.82, 0.33, 0.0, 1.0)),
    ],
)
FONT = 10.0
_LONGEST = 48  # characters of a name in a figure
WIDTH = 5.0  # inches; the page scales it to a column
COLUMN = 3.25  # inches: a column of a paper in two columns
COLUMN_SCALE = 0.7  # of text and lines there: 7 points
UNSIGNED = {"png": "Software", "svg": "Date", "pdf": "CreationDate"}  # what would differ each time


def panel(theme: Theme, *, width: float = WIDTH, height: float = 3.1) -> tuple[Figure, Axes]:
    """A figure of one pair of axes, in the house style."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    dress(axes, theme)
    return figure, axes


def panels(
    theme: Theme, count: int, *, size: tuple[float, float], most: int = 3
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` small multiples of `size` in inches, at most `most` abreast."""
    columns = min(most, count)
    rows = -(-count // columns)
    figsize = (size[0] * columns, size[1] * rows)
    figure = Figure(figsize=figsize, layout="constrained", dpi=160)
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = list(grid.flat)
    for unused in axes[count:]:
        unused.remove()
    for one in axes[:count]:
        dress(one, theme)
    return figure, axes[:count]


def dress(axes: Axes, theme: Theme) -> None:
    """Axes in the colours of the theme: a horizontal grid, and no frame but the lower edge."""
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.grid)
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(
        length=0, pad=4, colors=theme.muted, labelcolor=theme.muted, labelsize=FONT, which="both"
    )
    axes.xaxis.label.set(color=theme.muted, size=FONT)
    axes.yaxis.label.set(color=theme.muted, size=FONT)


def number_format(write: Callable[[float], str] = ticks) -> FuncFormatter:
    """Tick labels as `write` writes them."""

    def label(value: float, _: int | None) -> str:
        return write(value)

    return FuncFormatter(label)


def token_axis(axes: Axes) -> None:
    """The horizontal axis of curves: training tokens, with few ticks."""
    axes.set_xlabel("training tokens")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(number_format())


def log_axis(axes: Axes) -> None:
    """Of numbers that people read: 500 k, 1 M, 2 M."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(number_format())
    axes.xaxis.set_minor_formatter(NullFormatter())


def heading(axes: Axes, theme: Theme, text: str) -> None:
    """A bold title over the axes' left edge."""
    axes.set_title(plain(text), loc="left", color=theme.ink, fontsize=FONT + 1, fontweight="bold")


def plain(text: str) -> str:
    """The text itself, as far as a figure has room: a name with dollars in it is no formula."""
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return shown.replace("$", r"\$")


def spread(positions: list[float], gap: float, low: float, high: float) -> list[float]:
    """Labels at least `gap` apart and within `low..high`, near where they belong, in the same
    order. Where they don't all fit they stand evenly."""
    if not positions:
        return []
    order = np.argsort(positions, kind="stable")
    count = len(positions)
    gap = min(gap, (high - low) / max(count - 1, 1))
    wanted = np.asarray(positions, dtype=float)[order]
    lowest = low + gap * np.arange(count)
    highest = high - gap * np.arange(count)[::-1]
    # Pushed up from below and down from above; halfway stays sorted and apart.
    up = np.maximum.accumulate(wanted - gap * np.arange(count)) + gap * np.arange(count)
    down = np.minimum.accumulate((wanted - gap * np.arange(count))[::-1])[::-1]
    placed = np.clip((up + down + gap * np.arange(count)) / 2, lowest, highest)
    result = [0.0] * count
    for rank, index in enumerate(order):
        result[int(index)] = float(placed[rank])
    return result


@contextmanager
def _drawing(salt: str) -> Generator[None]:
    """The settings that matplotlib reads only from its global ones, for as long as it draws."""
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "pdf.fonttype": 42,  # TrueType, which publishers ask for
        "font.family": "DejaVu Sans",
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        # Names in scripts that our font lacks: the reader's browser has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an element of the page: no fixed size, the page's fonts and colours, no ids
    that two figures would share. `name` is unique on the page; `description` is what a screen
    reader says."""
    out = io.StringIO()
    with _drawing(name):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None, "matplotlib's SVG has a viewBox"
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{view[0]} role="img" aria-label="{escape(description)}">'
    )
    return Markup(re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1))


def save(
    figure: Figure, stem: str, folder_name: str, kinds: Iterable[str] = ("png", "svg")
) -> dict[str, bytes]:
    """The figure for paper: bytes by file name, one file for each of `kinds`; the same on every
    call."""
    files: dict[str, bytes] = {}
    for kind in kinds:
        out = io.BytesIO()
        with _drawing(f"{folder_name}/{stem}"):
            figure.savefig(out, format=kind, facecolor="white", metadata={UNSIGNED[kind]: None})
        files[f"{stem}.{kind}"] = out.getvalue()
    return files


def to_column(figure: Figure) -> Figure:
    """The same figure COLUMN inches wide, with text and lines small enough for that."""
    for text in figure.findobj(Text):
        text.set_fontsize(float(text.get_fontsize()) * COLUMN_SCALE)  # pyright: ignore[reportUnknownArgumentType]
    for line in figure.findobj(Line2D):
        line.set(
            linewidth=line.get_linewidth() * COLUMN_SCALE,
            markersize=line.get_markersize() * COLUMN_SCALE,
        )
    figure.set_figwidth(COLUMN)
    return figure
