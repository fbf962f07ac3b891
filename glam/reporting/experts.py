"""Who does the work: the load of every expert over time, and which text goes where."""
# matplotlib's stubs leave its keywords untyped.
# pyright: reportUnknownMemberType=false

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glam.reporting.page import Plot
from glam.reporting.theme import (
    BALANCE,
    FONT,
    PAGE,
    PRINT,
    Theme,
    dress,
    heading,
    inline_svg,
    plain,
)
from glam.runs.record import Array, Json, Record
from glam.units import fixed, percent, ticks

T = TypeVar("T")
OCTAVES = 2.0  # colours run from a quarter of the mean to four times it
MOST_LAYERS = 8  # of which heat maps are drawn, from the first to the last; the table has all
LEGEND = "1 is an even share; blue is less, orange is more. The colours end at ¼ and 4."


def load_over_time(record: Record) -> list[Plot]:
    """One heat map a MoE layer: tokens across, experts down."""
    tokens, loads = record.metrics.load()
    plots: list[Plot] = []
    for layer in chosen(list(loads)) if len(tokens) else []:
        load = loads[layer]
        figure = _load_map(layer, tokens, load, PAGE)
        busiest, idlest = float(load[-1].max()), float(load[-1].min())
        words = (
            f"Load of the {load.shape[1]} experts of layer {layer} over training; at the end the "
            f"busiest carries {fixed(busiest, 2)} and the idlest {fixed(idlest, 2)} of the mean."
        )
        plots.append(Plot(svg=inline_svg(figure, f"load-{layer}", words), caption=""))
    return plots


def heat_maps(run: Path) -> dict[str, Figure]:
    """On white, by name: the load over training (`load_map/<layer>`) and by domain
    (`domain_map/<layer>`) of every MoE layer, from the folder of a run."""
    record = Record.read(run)
    tokens, loads = record.metrics.load()
    maps = {
        f"load_map/{layer}": _load_map(layer, tokens, load, PRINT)
        for layer, load in loads.items()
        if len(tokens)
    }
    maps |= {
        f"domain_map/{layer}": domain_map(f"Layer {layer}", domains_of(record), load, PRINT)
        for layer, load in domain_loads(record)
    }
    for figure in maps.values():
        figure.set_dpi(160)
    return maps


def _load_map(layer: str, tokens: Array, load: Array, theme: Theme) -> Figure:
    """`load` is `[points, experts]`, 1 being even."""
    figure, axes = _heat_map(load.T, theme, height=2.7 if load.shape[1] <= 32 else 3.9)
    _time_axis(axes, tokens)
    axes.set_ylabel("expert")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    heading(axes, theme, f"Layer {layer}")
    return figure


def chosen(items: list[T], most: int = MOST_LAYERS) -> list[T]:
    """At most so many of them, evenly spread, the first and the last included."""
    count = min(len(items), most)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, count).round()]


def by_domain(record: Record) -> list[Plot]:
    """One heat map a MoE layer: experts across, domains down."""
    domains = domains_of(record)
    plots: list[Plot] = []
    for layer, load in chosen(domain_loads(record)):
        figure = domain_map(f"Layer {layer}", domains, load, PAGE)
        words = f"Load of the experts of layer {layer} by domain. {most_loaded(domains, load)}"
        plots.append(Plot(svg=inline_svg(figure, f"domains-{layer}", words), caption=""))
    return plots


def domain_map(title: str, domains: list[str], load: Array, theme: Theme) -> Figure:
    """`load` is `[domains, experts]`, 1 being even."""
    figure, axes = _heat_map(load, theme, height=1.3 + 0.25 * len(domains))
    axes.set_xlabel("expert")
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.set_yticks(range(len(domains)), [plain(name) for name in domains])
    heading(axes, theme, title)
    return figure


def most_loaded(domains: list[str], load: Array) -> str:
    """Each domain's most loaded expert, in a sentence. `load` `[domains, E]` is over the mean."""
    top = ", ".join(
        f"{name} expert {int(row.argmax())} ({fixed(float(row.max()), 1)}×)"
        for name, row in zip(domains, load, strict=True)
    )
    return f"Most loaded: {top}."


def layers(record: Record) -> list[dict[str, str]]:
    """The table of the MoE layers: balance at the end, dropped share, and how far domains part."""
    apart = {str(layer): specialisation(load) for layer, load in domain_loads(record)}
    entries: list[Json] = record.summary.get("load") or []
    return [
        {
            "layer": str(entry.get("layer")),
            "busiest": fixed(entry.get("busiest"), 2),
            "idlest": fixed(entry.get("idlest"), 2),
            "dropped": percent(entry.get("dropped")),
            "apart": percent(apart.get(str(entry.get("layer")))),
        }
        for entry in entries
    ]


def specialisation(load: Array) -> float:
    """From loads `[domains, experts]` of mean 1: the share of a domain's token-choices that would
    have to move for it to use the experts as the average domain does; mean over the domains.
    0: every domain uses them alike."""
    share = load / load.shape[1]
    return float(np.abs(share - share.mean(0)).sum(1).mean() / 2)


def domains_of(record: Record) -> list[str]:
    """In the order of the rows of `domain_loads`."""
    return [str(name) for name in record.routing.get("domains", [])]


def domain_loads(record: Record) -> list[tuple[Any, Array]]:
    """By layer, loads over the mean `[domains, experts]`; nothing where the file says nothing, or
    has other rows than domains."""
    names = record.routing.get("layers", [])
    shares = record.routing.get("share", [])
    found: list[tuple[Any, Array]] = []
    for layer, rows in zip(names, shares, strict=False):
        share = np.array(rows, dtype=np.float64)
        whole = share.ndim == 2 and len(share) == len(domains_of(record))
        if whole and share.size and np.isfinite(share).all():
            found.append((layer, share * share.shape[1]))
    return found


def _heat_map(load: Array, theme: Theme, *, height: float) -> tuple[Figure, Axes]:
    """`load [rows, columns]`, 1 being even, with its scale beside it."""
    figure = Figure(figsize=(5.0, height), layout="constrained")
    axes = figure.add_subplot()
    dress(axes, theme)
    axes.grid(visible=False)
    octaves = np.log2(np.maximum(load, 2.0 ** -(OCTAVES + 1)))
    style: dict[str, Any] = {
        "cmap": BALANCE,
        "vmin": -OCTAVES,
        "vmax": OCTAVES,
        "interpolation": "none",
        "aspect": "auto",
    }
    axes.imshow(octaves, **style)
    for side in axes.spines.values():
        side.set(visible=True, color=theme.grid)
    scale = axes.inset_axes((1.03, 0.0, 0.03, 1.0))
    dress(scale, theme)
    scale.grid(visible=False)
    scale.imshow(np.linspace(OCTAVES, -OCTAVES, 64)[:, None], extent=(0, 1, -2, 2), **style)
    scale.set_xticks([])
    scale.yaxis.tick_right()
    scale.set_yticks([-2, -1, 0, 1, 2], ["¼", "½", "1", "2", "4"])
    scale.tick_params(labelsize=FONT - 1, labelcolor=theme.muted, length=0, pad=3)
    for side in scale.spines.values():
        side.set(visible=True, color=theme.grid)
    return figure, axes


def _time_axis(axes: Axes, tokens: Array) -> None:
    """Columns are measurements; a few of them say at how many tokens."""
    chosen = np.unique(np.linspace(0, len(tokens) - 1, min(4, len(tokens))).round().astype(int))
    axes.set_xticks(chosen.tolist(), [ticks(float(tokens[i])) for i in chosen])
    axes.set_xlabel("training tokens")
