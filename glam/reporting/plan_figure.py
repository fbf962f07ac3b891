"""Figure of a plan: shares of FLOPs and of messages by part, and memory against what a device has.

A bar is a model.
"""
# matplotlib's stubs leave its keywords untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glam.reporting.theme import Theme, dress, heading, number_format
from glam.units import SPACE, percent, si, ticks

Plan = Mapping[str, Any]

# One colour a part, in every panel.
COLOURS = {
    "attention": 0,
    "feed_forward": 1,
    "experts": 2,
    "gate": 6,
    "output": 4,
    "weights": 0,
    "optimizer": 1,
    "gradients": 5,
    "activations": 3,
    "other": 6,
}
MEMORY = "Memory of one device"
PANELS = {
    "FLOPs per token": (
        "flops_per_token",
        ("attention", "feed_forward", "experts", "gate", "output"),
    ),
    MEMORY: (
        "bytes_per_device",
        ("weights", "optimizer", "gradients", "activations", "other"),
    ),
    "Sent by one device": (
        "communication_bytes_per_step",
        ("weights", "gradients", "activations", "experts"),
    ),
}


def description(plans: Sequence[Plan]) -> str:
    """The figure in words, for screen readers."""
    held = "; ".join(
        f"{name} {_held(plan)}"
        for name, plan in zip(_names(plans), plans, strict=True)
        if plan["bytes_per_device"]
    )
    words = "Shares of FLOPs per token and of messages by part, a bar a model"
    return f"{words}. Memory of one device: {held}." if held else f"{words}."


def parts(plans: Sequence[Plan], theme: Theme) -> Figure:
    """A panel for each of FLOPs, memory and messages that any plan has; memory in bytes, with a
    mark at what a device has."""
    panels = {
        name: (key, names)
        for name, (key, names) in PANELS.items()
        if any(plan[key] and sum(plan[key][part] for part in names) for plan in plans)
    }
    height = 0.95 + 0.26 * len(plans)
    figure = Figure(figsize=(6.4, height * len(panels)), layout="constrained")
    layout = figure.get_layout_engine()
    assert layout is not None, "the figure was made with one"
    layout.set(h_pad=0.12)  # pyright: ignore[reportCallIssue]
    for index, (name, (key, names)) in enumerate(panels.items()):
        axes = figure.add_subplot(len(panels), 1, index + 1)
        dress(axes, theme)
        axes.grid(visible=False)
        _bars(axes, theme, [plan[key] for plan in plans], names, is_share=name != MEMORY)
        axes.set_yticks(range(len(plans)), _names(plans), fontsize=8)
        axes.invert_yaxis()
        if name == MEMORY:
            _devices(axes, theme, plans)
        else:
            axes.set_xlim(0, 1)
            axes.xaxis.set_major_formatter(number_format(lambda value: percent(value, 0)))
        heading(axes, theme, name)
        axes.legend(
            fontsize=8,
            frameon=False,
            labelcolor=theme.ink,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
        )
    return figure


def _names(plans: Sequence[Plan]) -> list[str]:
    return [str(plan["cell"] or plan["model"]) for plan in plans]


def _bars(
    axes: Axes,
    theme: Theme,
    values: Sequence[Mapping[str, float] | None],
    names: Sequence[str],
    *,
    is_share: bool,
) -> None:
    left = [0.0] * len(values)
    for part in names:
        widths = [_width(one, part, names, is_share=is_share) for one in values]
        if not any(widths):
            continue
        axes.barh(
            range(len(values)),
            widths,
            0.7,
            left=left,
            color=theme.colour(COLOURS[part]),
            label=part.replace("_", " "),
        )
        left = [start + width for start, width in zip(left, widths, strict=True)]


def _width(
    values: Mapping[str, float] | None, part: str, names: Sequence[str], *, is_share: bool
) -> float:
    if not values:
        return 0.0
    total = sum(values[name] for name in names)
    return values[part] / (total or 1) if is_share else values[part]


def _devices(axes: Axes, theme: Theme, plans: Sequence[Plan]) -> None:
    """A line at what a device has across each bar, and both numbers beside it."""
    held = {row: plan["bytes_per_device"] for row, plan in enumerate(plans)}
    ends = {row: max(one["total"], one["available"]) for row, one in held.items() if one}
    for row, end in ends.items():
        has = held[row]["available"]
        axes.plot(
            [has, has],
            [row - 0.45, row + 0.45],
            color=theme.ink,
            linewidth=2,
            label="a device has" if row == min(ends) else None,
        )
        axes.annotate(
            _held(plans[row]),
            (end, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=theme.muted,
            fontsize=8,
        )
    axes.set_xlim(0, 1.5 * max(ends.values()))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(number_format(_bytes_tick))


def _bytes_tick(value: float) -> str:
    return ticks(value, "B") if value else "0"


def _held(plan: Plan) -> str:
    held = plan["bytes_per_device"]
    words = f"{si(held['total'], 'B')} of{SPACE}{si(held['available'], 'B')}"
    return words if held["fits"] else f"{words}: too much"
