"""Curves of a run against the tokens trained on: losses, learning rate, speed."""
# matplotlib's stubs leave its keywords untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glam.reporting.page import Plot
from glam.reporting.theme import (
    FONT,
    PAGE,
    heading,
    inline_svg,
    number_format,
    panel,
    plain,
    spread,
    token_axis,
)
from glam.runs.record import Array, Metrics, Record
from glam.units import fixed, si

MOST_CURVES = 12  # more cannot be distinguished; the table has them all
SMOOTHING = 25  # the training loss is averaged over this part of the run: one 25th

EVALUATED = ("tokens_per_point", "tokens_per_domain")

# The small panels: column, title.
GAUGES = (
    ("learning_rate", "Learning rate"),
    ("grad_norm", "Gradient norm"),
    ("tokens_per_second", "Tokens per second"),
    ("balance_loss", "Balance loss"),
)


def held_out(record: Record) -> Plot | None:
    """Held-out loss by domain, the mean in ink."""
    names = [name for name in record.domains if len(record.held_out(name)[0])]
    curves = {name: record.held_out(name) for name in names[:MOST_CURVES]}
    mean = record.held_out("mean")
    if len(names) > 1 and len(mean[0]):
        curves["mean"] = mean
    if not curves:
        return None
    hidden = len(names) - MOST_CURVES
    caption = "Held-out loss on whole documents, nats per token, against the tokens trained on."
    point, end = (record.setting(f"evaluation.{key}") for key in EVALUATED)
    if point and point != end and record.part("loss"):
        size = f"up to {end:,}" if end else "all"
        caption += (
            f" Points during training are measured on {point:,} tokens of a domain, the last one "
            f"on {size}: it is the final evaluation, as in the table."
        )
    if hidden > 0:
        caption += f" {hidden} more domains are in the table."
    words = "; ".join(
        f"{name} from {fixed(y[0], 2)} to {fixed(y[-1], 2)}" for name, (_, y) in curves.items()
    )
    figure, axes = _labelled(curves, PAGE.domains(_all_names(record)))
    heading(axes, PAGE, "Held-out loss by domain")
    svg = inline_svg(figure, "held-out", f"Held-out loss by domain: {words}.")
    return Plot(svg=svg, caption=caption)


def training(record: Record) -> Plot | None:
    """Training loss, smoothed: each source, and the batch in ink."""
    names = record.metrics.under("loss")
    curves = {name: record.metrics.curve(f"loss/{name}") for name in names[:MOST_CURVES]}
    curves = {name: curve for name, curve in curves.items() if len(curve[0])}
    batch = record.metrics.curve("loss")
    if len(batch[0]):
        curves["batch"] = batch
    if not curves:
        return None
    smooth = {name: (x, smoothed(y)) for name, (x, y) in curves.items()}
    last = next(reversed(smooth.values()))[1][-1]
    colours = {**PAGE.domains(_all_names(record)), "batch": PAGE.ink}
    figure, axes = _labelled(smooth, colours)
    if len(batch[0]):
        axes.plot(*batch, color=PAGE.ink, linewidth=0.7, alpha=0.25, zorder=1)
    heading(axes, PAGE, "Training loss by source")
    words = f"Training loss by source, smoothed; at the end {fixed(float(last), 2)}."
    caption = (
        "Training loss, nats per token, as a moving average over what was logged; "
        "the faint line is the batch as measured."
    )
    return Plot(svg=inline_svg(figure, "training", words), caption=caption)


def _all_names(record: Record) -> list[str]:
    """Domains and sources of a run: what needs a colour of its own in any of its figures."""
    return [*record.domains, *record.metrics.under("loss")]


def gauges(metrics: Metrics) -> list[Plot]:
    """Small panels of whatever was logged beside the loss."""
    plots: list[Plot] = []
    for column, title in GAUGES:
        x, y = metrics.curve(column)
        if len(x) < 2 or not y.any():
            continue
        figure, axes = panel(PAGE, width=2.7, height=1.9)
        axes.plot(x, y, color=PAGE.ink, linewidth=1.2)
        axes.set_ylim(*late_range([(x, y)], floor_at_zero=True))
        token_axis(axes)
        axes.set_xlabel("")
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(number_format())
        heading(axes, PAGE, title)
        words = f"{title}: {si(float(y[0]))} at the start, {si(float(y[-1]))} at the end."
        plots.append(Plot(svg=inline_svg(figure, f"gauge-{column}", words), caption=""))
    return plots


def smoothed(values: Array) -> Array:
    """Centred moving average `[points]`; at the ends over what there is."""
    window = np.ones(2 * (len(values) // SMOOTHING // 2) + 1)
    counts = np.convolve(np.ones_like(values), window, mode="same")
    return np.convolve(values, window, mode="same") / counts


def _labelled(
    curves: dict[str, tuple[Array, Array]], colours: dict[str, str]
) -> tuple[Figure, Axes]:
    """Lines of the page with their names at their right ends; one in ink, which sums up, is
    strong. A colour that two of them share is dashed the second time."""
    height = max(3.3, 0.24 * len(curves) + 0.6)
    figure, axes = panel(PAGE, height=height)
    low, high = late_range(list(curves.values()))
    axes.set_ylim(low, high)
    drawn: set[str] = set()
    for name, (x, y) in curves.items():
        colour = colours[name]
        style = "--" if colour in drawn else "-"
        drawn.add(colour)
        marker = "." if len(x) <= 40 else ""
        width = 2.2 if colour == PAGE.ink else 1.5
        axes.plot(x, y, style, color=colour, linewidth=width, marker=marker, markersize=4)
    ends = [float(y[-1]) for _, y in curves.values()]
    right = max(float(x[-1]) for x, _ in curves.values())
    left = min(float(x[0]) for x, _ in curves.values())
    axes.set_xlim(min(left, right * 0.02), right if right > left else right + 1)
    gap = (high - low) / (height - 0.8) * (FONT + 2) / 72
    for i, place in enumerate(spread(ends, gap, low, high)):
        name = list(curves)[i]
        label = f"{plain(name)} {fixed(ends[i], 2)}"
        weight = "bold" if colours[name] == PAGE.ink else "normal"
        axes.annotate(
            label,
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            color=colours[name],
            fontsize=FONT,
            fontweight=weight,
            va="center",
            annotation_clip=False,
        )
    token_axis(axes)
    return figure, axes


def late_range(
    curves: Sequence[tuple[Array, Array]], *, after: float = 0.05, floor_at_zero: bool = False
) -> tuple[float, float]:
    """Limits of the loss: its fall in the first part of the run, up to `after` of the whole, may
    run off the top, so that the rest can be read."""
    end = after * max(float(x[-1]) for x, _ in curves)
    late = [y[x >= end] if (x >= end).any() else y for x, y in curves]
    values = np.concatenate(late)
    low, high = float(values.min()), float(values.max())
    if floor_at_zero and low >= 0:
        return 0.0, 1.08 * high or 1.0
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
