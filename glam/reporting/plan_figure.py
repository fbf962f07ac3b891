"""A plan in figures: memory against the device's, and FLOPs, bytes and messages by share."""
# matplotlib's stubs leave its keywords untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glam.reporting.theme import Theme, dress, heading, number_format
from glam.units import percent, si

Plan = Mapping[str, Any]

DESCRIPTION = (
    "Memory against what a device has, and shares of FLOPs per token, of memory and of messages by "
    "part, a bar a model."
)

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
PANELS = {
    "FLOPs per token": (
        "flops_per_token",
        ("attention", "feed_forward", "experts", "gate", "output"),
    ),
    "Memory of one device, by part": (
        "bytes_per_device",
        ("weights", "optimizer", "gradients", "activations", "other"),
    ),
    "Sent by one device": (
        "communication_bytes_per_step",
        ("weights", "gradients", "activations", "experts"),
    ),
}


MOST = 3.0  # times a device's memory: longer bars are cut, and say how long they are


def shares(plans: Sequence[Plan], names: Sequence[str], theme: Theme) -> Figure:
    """A panel for each of FLOPs, memory and messages that any plan has, and memory against what
    the device has; a bar a plan, under its name."""
    panels = {
        name: (key, parts)
        for name, (key, parts) in PANELS.items()
        if any(plan[key] and sum(plan[key][part] for part in parts) for plan in plans)
    }
    has_memory = any(plan["bytes_per_device"] for plan in plans)
    count = len(panels) + has_memory
    height = 0.95 + 0.26 * len(plans)
    figure = Figure(figsize=(6.4, height * count), layout="constrained")
    axes_of = iter([figure.add_subplot(count, 1, index + 1) for index in range(count)])
    if has_memory:
        _device_panel(next(axes_of), plans, names, theme)
    for name, (key, parts) in panels.items():
        axes = next(axes_of)
        widths = {part: [_share(plan[key], part, parts) for plan in plans] for part in parts}
        _bars(axes, widths, names, theme)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(number_format(lambda value: percent(value, 0)))
        heading(axes, theme, name)
    return figure


def _bars(
    axes: Axes, widths: Mapping[str, Sequence[float]], names: Sequence[str], theme: Theme
) -> None:
    """Stacked bars from the top down, a colour a part, and what the colours mean."""
    dress(axes, theme)
    axes.grid(visible=False)
    left = [0.0] * len(names)
    for part, each in widths.items():
        if any(each):
            colour, label = theme.colour(COLOURS[part]), part.replace("_", " ")
            axes.barh(range(len(names)), each, 0.7, left=left, color=colour, label=label)
            left = [start + width for start, width in zip(left, each, strict=True)]
    axes.set_yticks(range(len(names)), list(names), fontsize=8)
    axes.invert_yaxis()
    axes.legend(
        fontsize=8,
        frameon=False,
        labelcolor=theme.ink,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )


def _device_panel(axes: Axes, plans: Sequence[Plan], names: Sequence[str], theme: Theme) -> None:
    """Parts of a device's memory, which the line marks, and beside each bar both in bytes."""
    parts = PANELS["Memory of one device, by part"][1]
    held = [plan["bytes_per_device"] for plan in plans]
    longest = max(one["total"] / one["available"] for one in held if one)
    end = min(MOST, max(1.0, longest))
    cut = [_cut_bar(one, parts, end) for one in held]
    widths = {part: [one[index] for one in cut] for index, part in enumerate(parts)}
    _bars(axes, widths, names, theme)
    axes.set_xlim(0, 1.6 * end)  # with room for words behind bars and line
    axes.set_xticks([0.0, 1.0, 2.0, 3.0] if end > 1.5 else [0.0, 0.5, 1.0])
    axes.axvline(1.0, color=theme.ink, linewidth=1.2)
    axes.xaxis.set_major_formatter(number_format(lambda value: percent(value, 0)))
    for place, one in enumerate(held):
        if one:
            beside = min(end, max(1.0, one["total"] / one["available"])) + 0.03 * end
            words = f"{si(one['total'], 'B')} of {si(one['available'], 'B')}"
            words += "" if one["fits"] else ": NO"
            axes.text(beside, place, words, va="center", fontsize=8, color=theme.ink)
    heading(axes, theme, "Memory needed, of what one device has")


def _cut_bar(held: Mapping[str, Any] | None, parts: Sequence[str], end: float) -> list[float]:
    """Widths of the parts in shares of the device's memory, together at most `end`."""
    if not held:
        return [0.0] * len(parts)
    widths, room = list[float](), end
    for part in parts:
        widths.append(min(room, held[part] / held["available"]))
        room -= widths[-1]
    return widths


def _share(values: Mapping[str, float] | None, part: str, parts: Sequence[str]) -> float:
    total = sum(values[name] for name in parts) if values else 0
    return values[part] / total if values and total else 0.0
