"""Where a plan's FLOPs, bytes and messages go: a bar a model, by share."""
# matplotlib's stubs leave its keywords untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from glam.reporting.theme import Theme, dress, heading, number_format
from glam.units import percent

DESCRIPTION = "Shares of FLOPs per token, of memory and of messages, by part, a bar a model."

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
    "Memory of one device": (
        "bytes_per_device",
        ("weights", "optimizer", "gradients", "activations", "other"),
    ),
    "Sent by one device": (
        "communication_bytes_per_step",
        ("weights", "gradients", "activations", "experts"),
    ),
}


def shares(plans: Sequence[Mapping[str, Any]], theme: Theme) -> Figure:
    """A panel for each of FLOPs, memory and messages that any plan has."""
    panels = {
        name: (key, parts)
        for name, (key, parts) in PANELS.items()
        if any(plan[key] and sum(plan[key][part] for part in parts) for plan in plans)
    }
    names = [str(plan["cell"] or plan["model"]) for plan in plans]
    height = 0.95 + 0.26 * len(plans)
    figure = Figure(figsize=(6.4, height * len(panels)), layout="constrained")
    for index, (name, (key, parts)) in enumerate(panels.items()):
        axes = figure.add_subplot(len(panels), 1, index + 1)
        dress(axes, theme)
        axes.grid(visible=False)
        left = [0.0] * len(plans)
        for part in parts:
            widths = [_share(plan[key], part, parts) for plan in plans]
            if not any(widths):
                continue
            axes.barh(
                range(len(plans)),
                widths,
                0.7,
                left=left,
                color=theme.colour(COLOURS[part]),
                label=part.replace("_", " "),
            )
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.set_yticks(range(len(plans)), names, fontsize=8)
        axes.invert_yaxis()
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


def _share(values: Mapping[str, float] | None, part: str, parts: Sequence[str]) -> float:
    total = sum(values[name] for name in parts) if values else 0
    return values[part] / total if values and total else 0.0
