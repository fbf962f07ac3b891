"""Figures of a study: loss by the swept key, and paired differences to the baseline.

Panels share their axes: losses of every domain span the same number of nats, differences have the
same limits.
"""
# matplotlib's stubs leave its keywords untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from glam.analysis.paired import (
    EXPERTS,
    Difference,
    StudyRow,
    differences,
    domains,
    interval,
    is_numeric,
    series,
    values_of,
)
from glam.reporting.page import Plot
from glam.reporting.theme import (
    COLUMN,
    FONT,
    PAGE,
    PRINT,
    Theme,
    heading,
    inline_svg,
    number_format,
    panel,
    panels,
    plain,
    to_column,
)
from glam.units import fixed, signed

Draw = Callable[[Axes, Theme, str], None]
MOST_TICKS = 8
FAINT: dict[str, Any] = {"markersize": 4, "alpha": 0.5, "mew": 0}
FEW_SEEDS = 3  # with fewer an interval is wider than all else; it may leave its panel
TWO_ABREAST = 22  # letters of a label, so that two of them fit the width


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The x axis of a key: numbers at their place (logarithmic, base 2, where they span a factor of
    eight), words side by side."""

    key: str
    values: list[Any]

    @property
    def is_numeric(self) -> bool:
        return len(self.values) > 1 and is_numeric(self.values)

    @property
    def is_log(self) -> bool:
        if not self.is_numeric or min(self.values) <= 0:
            return False
        return self.key == EXPERTS or max(self.values) / min(self.values) >= 8

    def place(self, value: Any) -> float:
        return float(value) if self.is_numeric else float(self.values.index(value))

    def dress(self, axes: Axes) -> None:
        places = [self.place(value) for value in self.values]
        if self.is_log:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_minor_locator(NullLocator())
        if self.is_numeric:
            shown = (
                places if len(places) <= MOST_TICKS else places[:: -(-len(places) // MOST_TICKS)]
            )
            axes.xaxis.set_major_locator(FixedLocator(shown))
            axes.xaxis.set_major_formatter(number_format())
        else:
            turned = sum(len(str(value)) for value in self.values) > 24
            axes.set_xticks(
                places,
                [plain(str(value)) for value in self.values],
                rotation=30 if turned else 0,
                ha="right" if turned else "center",
            )
            axes.set_xlim(-0.5, len(places) - 0.5)
        axes.set_xlabel(plain(label_of(self.key)))


def label_of(key: str) -> str:
    """A configuration key in words, for an axis or a table."""
    return "experts" if key == EXPERTS else key.rpartition(".")[2].replace("_", " ")


def loss_by(cells: Sequence[StudyRow], key: str) -> Draw:
    """Losses of all runs along `key`: a dot a run, a line through the means over the seeds."""
    scale = Scale(key=key, values=values_of(key, cells))
    lines = series(cells, key)
    every = domains(cells)
    limits = _loss_limits(lines, key, every)
    span = max((high - low for low, high in limits.values()), default=0.0)

    def draw(axes: Axes, theme: Theme, domain: str) -> None:
        for i, (label, members) in enumerate(lines.items()):
            points = [
                (scale.place(cell.values[key]), loss)
                for cell in members
                if key in cell.values and (loss := cell.loss(domain)) is not None
            ]
            if not points:
                continue
            colour = _line_colour(theme, every, domain, i, len(lines))
            x, y = np.array(points).T
            if not scale.is_numeric:  # lines side by side, not one upon the other
                x = x + (i - (len(lines) - 1) / 2) * min(0.16, 0.7 / len(lines))
            places = np.unique(x)
            means = [float(y[x == place].mean()) for place in places]
            style = "-" if scale.is_numeric else ""
            axes.plot(x, y, "o", color=colour, markersize=5, alpha=0.5, mew=0)
            for place in places:
                around = interval(y[x == place].tolist())
                if around and (x == place).sum() >= FEW_SEEDS:
                    axes.plot([place, place], around, color=colour, linewidth=1.6)
            axes.plot(
                *(places, means),
                linestyle=style,
                marker="_" if not scale.is_numeric else "",
                markersize=18,
                color=colour,
                linewidth=1.8,
                label=plain(label),
            )
        scale.dress(axes)
        low, high = limits.get(domain, (0.0, 1.0))
        margin = (1.16 * (span or 1.0) - (high - low)) / 2
        axes.set_ylim(low - margin, high + margin)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        heading(axes, theme, domain)
        _legend(axes, theme, lines)

    return draw


def _loss_limits(
    lines: dict[str, list[StudyRow]], key: str, names: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """The lowest and the highest loss by domain, the intervals that are drawn included."""
    found: dict[str, list[float]] = {}
    for name in names:
        places: dict[tuple[str, Any], list[float]] = {}
        for label, members in lines.items():
            for row in members:
                if (loss := row.loss(name)) is not None and key in row.values:
                    places.setdefault((label, row.values[key]), []).append(loss)
        for losses in places.values():
            around = interval(losses) if len(losses) >= FEW_SEEDS else None
            found.setdefault(name, []).extend([*losses, *(around or ())])
    return {name: (min(losses), max(losses)) for name, losses in found.items()}


def _line_colour(theme: Theme, names: Sequence[str], domain: str, index: int, count: int) -> str:
    """The domain's own colour where its panel has one line; else that of the line's place."""
    return theme.domains(names)[domain] if count == 1 else theme.value(index, count)


def difference_by_experts(cells: Sequence[StudyRow], reference: int) -> Draw:
    """Paired differences to the dense twin against the number of experts, with intervals."""
    key = EXPERTS
    scale = Scale(key=key, values=values_of(key, cells))
    lines = series(cells, key)
    every = domains(cells)
    found = [
        one
        for members in lines.values()
        for name in every
        for one in differences(members, key, reference, name)
    ]
    limits = _limits(found)
    places = [scale.place(one.value) for one in found]

    def draw(axes: Axes, theme: Theme, domain: str) -> None:
        axes.axhline(0, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
        for i, (label, members) in enumerate(lines.items()):
            mine = differences(members, key, reference, domain)
            if mine:
                # Side by side, not one upon the other; the axis is logarithmic.
                shift = (i - (len(lines) - 1) / 2) * min(0.12, 0.7 / len(lines))
                colour = _line_colour(theme, every, domain, i, len(lines))
                _intervals(axes, scale, mine, colour, plain(label), shift)
        axes.set_ylim(*limits)
        scale.dress(axes)
        # Half a doubling at both ends, so that one value alone stands in the middle.
        axes.set_xlim(min(places) / 2**0.5, max(places) * 2**0.5)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(number_format(signed_tick))
        heading(axes, theme, domain)
        _legend(axes, theme, lines)

    return draw


def _intervals(
    axes: Axes, scale: Scale, found: list[Difference], colour: str, label: str, shift: float
) -> None:
    x = np.array([scale.place(one.value) for one in found]) * 2**shift
    means = [one.mean for one in found]
    axes.plot(x, means, "o-", color=colour, markersize=5, linewidth=1.3, label=label)
    for place, one in zip(x, found, strict=True):
        if one.interval:
            axes.plot([place, place], one.interval, color=colour, **_bar(one))
            axes.plot([place] * one.num_seeds, one.paired, "o", color=colour, **FAINT)


def _bar(one: Difference) -> dict[str, Any]:
    few = one.num_seeds < FEW_SEEDS
    return {"linewidth": 0.8 if few else 1.8, "alpha": 0.6 if few else 1.0}


def _limits(found: Sequence[Difference]) -> tuple[float, float]:
    """Of an axis of differences: zero, every pair, and the intervals of more than two seeds."""
    values = [0.0, *(value for one in found for value in one.paired)]
    values += [end for one in found if one.num_seeds >= FEW_SEEDS for end in one.interval or ()]
    margin = 0.08 * (max(values) - min(values)) or 1.0
    return min(values) - margin, max(values) + margin


def forest(cells: Sequence[StudyRow], key: str, reference: Any, names: Sequence[str]) -> Draw:
    """Paired differences to `reference`, a row a domain: gains and losses on one axis."""
    lines = [
        (f"{value}" + (f", {label}" if label else ""), members, value)
        for label, members in series(cells, key).items()
        for value in values_of(key, cells)
        if value != reference
    ]

    def draw(axes: Axes, theme: Theme, _: str) -> None:
        axes.axvline(0, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
        shown: list[Difference] = []
        for i, (label, members, value) in enumerate(lines):
            shift = (i - (len(lines) - 1) / 2) * min(0.2, 0.7 / len(lines))
            for row, name in enumerate(names):
                found = differences(members, key, reference, name)
                for one in [one for one in found if one.value == value]:
                    colour = _line_colour(theme, names, name, i, len(lines))
                    place = row + shift
                    axes.plot(
                        [one.mean], [place], "o", color=colour, markersize=6,
                        label=plain(label) if row == 0 else None,
                    )  # fmt: skip
                    if one.interval:
                        axes.plot(one.interval, [place, place], color=colour, **_bar(one))
                        axes.plot(one.paired, [place] * one.num_seeds, "o", color=colour, **FAINT)
                    shown.append(one)
        axes.set_xlim(*_limits(shown))
        axes.set_yticks(range(len(names)), [plain(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x", color=theme.grid, linewidth=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(number_format(signed_tick))
        axes.set_xlabel("difference in held-out loss (nats per token)")
        if len(lines) > 1:
            handles, labels = axes.get_legend_handles_labels()
            axes.legend(
                handles,
                labels,
                loc="lower left",
                bbox_to_anchor=(0, 1),
                ncols=2 if max(map(len, labels)) <= TWO_ABREAST else 1,
                frameon=False,
                fontsize=FONT - 1,
                labelcolor=theme.muted,
                handlelength=1.2,
            )

    return draw


def signed_tick(value: float) -> str:
    """A difference as a tick: with its sign, without idle zeros."""
    return "0" if abs(value) < 1e-9 else signed(value, 3).rstrip("0").rstrip(".")


def _legend(axes: Axes, theme: Theme, lines: dict[str, list[StudyRow]]) -> None:
    # More lines than colours: a legend would hide them and tell none apart.
    if 1 < len(lines) <= len(theme.series):
        axes.legend(frameon=False, fontsize=FONT - 1, labelcolor=theme.muted, handlelength=1.2)


def on_page(
    draw: Draw,
    names: Sequence[str],
    stem: str,
    words: Callable[[str], str],
    size: tuple[float, float] = (3.7, 2.8),
) -> list[Plot]:
    """A figure of the page for every domain; `words` describes each, `size` is in inches."""
    plots: list[Plot] = []
    for i, name in enumerate(names):
        figure, axes = panel(PAGE, width=size[0], height=size[1])
        draw(axes, PAGE, name)
        plots.append(Plot(svg=inline_svg(figure, f"{stem}-{i}", words(name)), caption=""))
    return plots


def on_paper(
    draw: Draw, names: Sequence[str], y_label: str, size: tuple[float, float] = (3.4, 2.9)
) -> Figure:
    """Small multiples of one figure, a panel for every name."""
    return _multiples(draw, names, y_label, panels(PRINT, len(names), size=size))


def in_column(
    draw: Draw, names: Sequence[str], y_label: str, size: tuple[float, float] | None = None
) -> Figure:
    """The same for a column of a paper: two panels abreast; `size` of each is in inches."""
    abreast = min(2, len(names))
    size = size or (COLUMN / abreast, 1.6 if abreast == 2 else 2.4)
    made = panels(PRINT, len(names), size=size, most=abreast)
    return to_column(_multiples(draw, names, y_label, made))


def _multiples(
    draw: Draw, names: Sequence[str], y_label: str, made: tuple[Figure, list[Axes]]
) -> Figure:
    figure, axes = made
    for one, name in zip(axes, names, strict=True):
        draw(one, PRINT, name)
        legend, first = one.get_legend(), axes[0].get_legend()
        if one is not axes[0] and legend and first and _words(legend) == _words(first):
            legend.remove()  # the first panel has it
    if y_label:
        figure.supylabel(y_label, color=PRINT.muted, fontsize=FONT)
    return figure


def _words(legend: Legend) -> list[str]:
    return [text.get_text() for text in legend.get_texts()]


def loss_words(cells: Sequence[StudyRow], key: str, domain: str) -> str:
    """The figure of losses in words, for screen readers."""
    found: list[str] = []
    for value in values_of(key, cells):
        losses = [cell.loss(domain) for cell in cells if cell.values.get(key) == value]
        measured = [loss for loss in losses if loss is not None]
        if measured:
            found.append(f"{value}: {fixed(float(np.mean(measured)))}")
    return f"Held-out loss, {domain}, by {label_of(key)}: " + ", ".join(found) + "."


def difference_words(cells: Sequence[StudyRow], key: str, reference: Any, domain: str) -> str:
    """The figure of differences in words, for readers who do not see it."""
    found = [
        f"{one.value}: {signed(one.mean)}"
        for members in series(cells, key).values()
        for one in differences(members, key, reference, domain)
    ]
    return f"Difference to {label_of(key)} {reference}, {domain}: " + ", ".join(found) + "."
