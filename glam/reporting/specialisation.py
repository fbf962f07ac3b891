"""Inside the experts: what `analysis.json` says, on the page of a run and at the terminal."""
# matplotlib's stubs leave its keywords untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table
from rich.text import Text

from glam.reporting.experts import chosen, domain_map
from glam.reporting.page import Plot
from glam.reporting.theme import PAGE, WIDTH, heading, inline_svg, panel, token_axis
from glam.runs.record import Json
from glam.units import DASH, SPACE, fixed, percent, whole

KINDS = {"token": "the token", "class": "its class", "domain": "its domain"}
SHOWN_TOKENS = 6


def section(analysis: Json) -> dict[str, Any] | None:
    """What the template shows; None where the run was not analyzed."""
    if not analysis:
        return None
    return {
        "lead": lead(analysis),
        "information": information_plots(analysis),
        "classes": class_maps(analysis),
        "history": history(analysis),
        "rows": information_rows(analysis),
        "agreement": agreement_rows(analysis),
        "claims": claim_rows(analysis),
        "num_claims": len(analysis["claims"]),
        "experts": expert_rows(analysis),
        "few": few_documents(analysis),
    }


def lead(analysis: Json) -> str:
    """What was measured, in a sentence."""
    return (
        f"Measured on {whole(analysis['tokens'])} held-out tokens of "
        f"{whole(analysis['documents'])} documents, by each token’s first expert. Bits are mutual "
        f"information less what {whole(analysis['shuffles'])} shuffles of the documents give."
    )


def few_documents(analysis: Json) -> str:
    """The sentence on domains of which too few documents are held out; empty where none is."""
    counts: dict[str, int] = analysis["documents_by_domain"]
    fewest: int = analysis["fewest_documents"]
    few = [f"{name} ({count})" for name, count in counts.items() if count < fewest]
    if not few:
        return ""
    return (
        f"Of some domains few documents are held out, too few to tell a specialist from a document "
        f"of its own kind: {', '.join(few)}."
    )


def information_plots(analysis: Json) -> list[Plot]:
    """A figure for each kind of label: bits by layer, with intervals."""
    plots: list[Plot] = []
    for place, (about, words) in enumerate(KINDS.items()):
        rows = [row for row in analysis["information"] if row["about"] == about]
        if not rows:
            continue
        # Three in a row: as wide as a third of the page, beside two of WIDTH.
        figure, axes = panel(PAGE, width=WIDTH * 0.75, height=2.6)
        x, excess = range(len(rows)), [row["excess"] for row in rows]
        low = [row["excess"] - row["low"] for row in rows]
        high = [row["high"] - row["excess"] for row in rows]
        style: dict[str, Any] = {"color": PAGE.colour(place), "linewidth": 1.6, "markersize": 6}
        axes.errorbar(x, excess, yerr=[low, high], fmt="o", capsize=3, **style)
        lowest, highest = min(row["low"] for row in rows), max(row["high"] for row in rows)
        axes.set_ylim(min(0.0, lowest), 1.1 * max(highest, 0.0) or 1.0)
        axes.set_xlim(-0.5, len(rows) - 0.5)
        axes.set_xticks(list(x), [str(row["layer"]) for row in rows])
        axes.set_xlabel("layer")
        axes.yaxis.set_major_locator(MaxNLocator(4))
        heading(axes, PAGE, f"Expert and {words} (bits)")
        told = ", ".join(f"layer {row['layer']} {fixed(row['excess'])}" for row in rows)
        words = f"Mutual information of expert and {words} above chance, in bits: {told}."
        plots.append(Plot(svg=inline_svg(figure, f"information-{about}", words), caption=""))
    return plots


def class_maps(analysis: Json) -> list[Plot]:
    """A heat map for each MoE layer: which class of token goes to which expert."""
    plots: list[Plot] = []
    for row in chosen(list(analysis["load"])):
        names = list(row["by_class"])
        load = np.array([row["by_class"][name] for name in names], dtype=np.float64)
        load = load * analysis["num_experts"]
        figure = domain_map(f"Layer {row['layer']}", names, load, PAGE)
        words = f"Load of the experts of layer {row['layer']} by class of token."
        plots.append(Plot(svg=inline_svg(figure, f"classes-{row['layer']}", words), caption=""))
    return plots


def history(analysis: Json) -> list[Plot]:
    """How much of the load lay elsewhere than at the end, over training; none without curves."""
    training = analysis["training"]
    layers, tokens = training["layers"], training["tokens"]
    if not layers or len(tokens) < 2:
        return []
    figure, axes = panel(PAGE)
    for place, row in enumerate(layers):
        colour = PAGE.value(place, len(layers))
        elsewhere = [100 * share for share in row["elsewhere"]]
        axes.plot(tokens, elsewhere, color=colour, linewidth=1.8, label=f"layer {row['layer']}")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("% of choices")
    token_axis(axes)
    axes.legend(frameon=False, labelcolor=PAGE.muted, fontsize=9)
    heading(axes, PAGE, "Choices that went elsewhere than at the end")
    words = "Share of each layer's choices that went to other experts than at the end of training."
    return [Plot(svg=inline_svg(figure, "load-history", words), caption="")]


def information_rows(analysis: Json) -> list[dict[str, str]]:
    """By layer and label: as counted, by chance, and the difference with its interval."""
    return [
        {"layer": str(row["layer"]), "about": row["about"], **_bits(row)}
        for row in analysis["information"]
    ]


def agreement_rows(analysis: Json) -> list[dict[str, str]]:
    """By two layers: how much the expert in one says of that in the other."""
    return [
        {"layers": f"{SPACE}and{SPACE}".join(map(str, row["layers"])), **_bits(row)}
        for row in analysis["agreement"]
    ]


def _bits(row: Json) -> dict[str, str]:
    return {
        "bits": fixed(row["bits"]),
        "null": fixed(row["null"]),
        "excess": fixed(row["excess"]),
        "interval": f"{fixed(row['low'])} to {fixed(row['high'])}".replace(" ", SPACE),
    }


def claim_rows(analysis: Json) -> list[dict[str, str]]:
    """Specialisations that held on documents which did not pick them, the surest first."""
    held = [claim for claim in analysis["claims"] if claim["found"]]
    return [
        {
            "layer": str(claim["layer"]),
            "expert": str(claim["expert"]),
            "about": claim["about"],
            "label": readable(claim["label"]),
            "lift": f"{fixed(claim['lift'], 1)}×",
            "interval": f"{fixed(claim['low'], 1)} to {fixed(claim['high'], 1)}",
            "p": fixed(claim["p"]),
        }
        for claim in sorted(held, key=lambda claim: (claim["p"], -claim["lift"]))
    ]


def expert_rows(analysis: Json) -> list[dict[str, str]]:
    """Every expert: its share, what sets its tokens apart, and the tokens that it gets most."""
    return [
        {
            "layer": str(row["layer"]),
            "expert": str(row["expert"]),
            "share": percent(row["share"]),
            **{about: fixed(row["information"].get(about), 2) for about in KINDS},
            "tokens": tokens_in_words(row["tokens"]),
        }
        for row in analysis["experts"]
    ]


def tokens_in_words(tokens: Sequence[Json]) -> str:
    """The most frequent tokens, each with its share of what the expert gets."""
    told = [f"{readable(one['piece'])} {percent(one['share'], 0)}" for one in tokens[:SHOWN_TOKENS]]
    return ", ".join(told) or DASH


def readable(piece: str) -> str:
    """A token as it can be seen: spaces as ␣, line ends as ⏎."""
    return piece.replace("▁", "␣").replace("\n", "⏎") or "(unknown)"


def print_analysis(analysis: Json, report: Path, console: Console | None = None) -> None:
    """Information by layer, the claims that held, and where the report lies."""
    console = console or Console()
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("layer", "expert and", "bits", "by chance", "above chance", "95 %"):
        table.add_column(name, justify="left" if name == "expert and" else "right")
    for row in information_rows(analysis):
        cells = (row[name] for name in ("layer", "about", "bits", "null", "excess", "interval"))
        table.add_row(*cells)
    for row in agreement_rows(analysis):
        layers = Text(f"{row['layers']}")
        table.add_row(layers, "expert", row["bits"], row["null"], row["excess"], row["interval"])
    console.print(table)
    claims, tested = claim_rows(analysis), len(analysis["claims"])
    console.print(
        f"{len(claims)} of {tested} specialisations held on documents that did not pick them"
    )
    for row in claims[:SHOWN_TOKENS]:
        said = f"  layer {row['layer']} expert {row['expert']}: {row['about']} {row['label']}, "
        console.print(Text(said + f"{row['lift']} ({row['interval']})"))
    console.print(Text("report  ", style="dim") + Text(str(report)), soft_wrap=True)
