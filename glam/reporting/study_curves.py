"""Held-out loss of a study's runs during training, by tokens, FLOPs, seconds and joules.

The panels share their axis of losses."""
# matplotlib's stubs leave its keywords untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from glam.analysis.paired import StudyRow, combinations, in_words
from glam.reporting.curves import late_range
from glam.reporting.experts import chosen
from glam.reporting.page import Plot
from glam.reporting.study_figures import Draw, label_of, on_page
from glam.reporting.theme import FONT, PRINT, Theme, heading, number_format, plain
from glam.runs.record import Array, Record, mapping
from glam.units import fixed, si

LOSS = "held_out/mean"
AXES = {
    "tokens": ("By tokens", "training tokens"),
    "flops": ("By FLOPs", "training FLOPs"),
    "train_seconds": ("By seconds", "seconds of training"),
    "joules": ("By joules", "joules of training"),
}
CAPTION = (
    "Mean held-out loss, nats per token; the last point of a finished run is its final evaluation, "
    "as in the table. Strong lines are means over the seeds, faint ones the runs."
)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ in their seed alone: for each, its measurements `[points]` by column."""

    label: str
    runs: list[dict[str, Array]]

    def lines(self, axis: str) -> list[tuple[Array, Array]]:
        """Cost and loss of every run that measured both."""
        return [(run[axis], run[LOSS]) for run in self.runs if axis in run]

    def mean(self, axis: str) -> tuple[Array, Array] | None:
        """Point by point, where all runs were measured at the same tokens."""
        tokens = [run["tokens"] for run in self.runs if axis in run]
        if not tokens or any(not np.array_equal(tokens[0], other) for other in tokens[1:]):
            return None
        x, y = zip(*self.lines(axis), strict=True)
        return np.mean(x, axis=0), np.mean(y, axis=0)


def section(
    cells: Sequence[StudyRow], records: Mapping[str, Record], key: str | None
) -> dict[str, Any] | None:
    """A panel an axis; None where no run has measured anything during training."""
    every = groups_of(cells, records, key)
    groups = chosen(every, most=len(PRINT.scale))
    axes = [axis for axis in AXES if any(group.lines(axis) for group in groups)]
    if not axes:
        return None
    draw = curves(groups, label_of(key) if key else "")
    plots: list[Plot] = []
    for axis in axes:
        plots += on_page(
            draw, [axis], f"curve-{axis}", lambda axis: words(groups, axis), size=(5.0, 3.4)
        )
    caption = CAPTION
    if len(groups) < len(every):
        caption += f" {len(groups)} of the combinations are drawn; the table has all."
    return {
        "id": "curves",
        "title": "Loss as it falls",
        "caption": caption,
        "plots": plots,
        "kind": "",
    }


def groups_of(
    cells: Sequence[StudyRow], records: Mapping[str, Record], key: str | None
) -> list[Group]:
    """One for every combination of the swept values, the seed apart."""
    groups: list[Group] = []
    for value, line, members in combinations(cells, key):
        found = [measurements(records[one.run]) for one in members if one.run in records]
        if runs := [measured for measured in found if measured]:
            label = ", ".join(
                part for part in ("" if value is None else in_words(value), line) if part
            )
            groups.append(Group(label=label, runs=runs))
    return groups


def measurements(record: Record) -> dict[str, Array]:
    """Loss and its cost `[points]`, wherever the held-out loss was measured; empty for fewer than
    two points. FLOPs are three times those of the forward pass."""
    columns = record.metrics.columns
    if LOSS not in columns or "tokens" not in columns:
        return {}
    measured = np.isfinite(columns[LOSS]) & np.isfinite(columns["tokens"])
    if measured.sum() < 2:
        return {}
    names = (LOSS, "tokens", "train_seconds", "joules")
    found = {name: columns[name][measured] for name in names if name in columns}
    found[LOSS] = record.held_out("mean")[1][: measured.sum()]
    forward = mapping(record.summary.get("flops_per_token")).get("forward")
    if forward:
        found["flops"] = 3.0 * forward * found["tokens"]
    return {name: values for name, values in found.items() if values.any()}


def curves(groups: list[Group], of: str) -> Draw:
    """Draws the loss of each group against an axis: thin lines are runs, thick lines are means."""
    limits = late_range([line for group in groups for line in group.lines("tokens")], after=0.25)

    def draw(axes: Axes, theme: Theme, axis: str) -> None:
        for i, group in enumerate(groups):
            mean, colour = group.mean(axis), theme.value(i, len(groups))
            for x, y in group.lines(axis) if mean is None or len(group.runs) > 1 else []:
                axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.45 if mean is None else 0.25)
            if mean is not None:
                axes.plot(*mean, color=colour, linewidth=1.7, label=plain(group.label))
                axes.plot(mean[0][-1], mean[1][-1], "o", color=colour, markersize=4)
        axes.set_ylim(*limits)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(number_format())
        title, label = AXES[axis]
        axes.set_xlabel(label)
        heading(axes, theme, title)
        if len(groups) > 1:
            legend = axes.legend(
                title=plain(of),
                loc="upper right",
                ncols=1 if len(groups) <= 4 else 2,
                frameon=False,
                fontsize=FONT - 1,
                labelcolor=theme.muted,
                handlelength=1.2,
                columnspacing=1.0,
            )
            legend.get_title().set(color=theme.muted, fontsize=FONT - 1)

    return draw


def words(groups: list[Group], axis: str) -> str:
    """The end of every mean line in words, for screen readers."""
    ends: list[str] = []
    for group in groups:
        mean = group.mean(axis)
        if mean is not None:
            end = f"{fixed(float(mean[1][-1]), 2)} at {si(float(mean[0][-1]))}"
            ends.append(f"{group.label}: {end}" if group.label else end)
    return f"Mean held-out loss by {AXES[axis][1]}; at the end " + ", ".join(ends) + "."
