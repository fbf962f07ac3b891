"""`python -m experiments.lead [<study.csv> …]`: what decides the gain from experts.

The lead of 16 experts over the dense twin (its loss minus theirs, paired by seed) against training
tokens per active parameter, all sizes together, from the tables of studies; without names, those
of TABLES. A run that stands in several tables counts once, in the first. Each table has its own
noise of a paired difference, pooled over its cells. Writes leads.csv and the figure beside it, and
prints the table and how the lead follows tokens per parameter and size, in Markdown.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.scaling_law.tables import COLUMNS, runs_of
from experiments.tables import finished, refuse, write
from glam.analysis.leads import Lead, leads
from glam.analysis.scaling_law import interval
from glam.analysis.wild_bootstrap import wild
from glam.reporting.theme import PRINT, log_axis, panels, save
from glam.units import si, signed

HERE = Path(__file__).parent
EXPERTS, CONFIDENCE = 16, 0.95
STUDIES = HERE.parent
# Those with the most seeds first.
TABLES = (
    "moe_vs_dense/results.csv",
    "expert_scaling/results.csv",
    "first_grid/five_seeds.csv",
    "scaling_law/results.csv",
)
HEADS = ("table", "active", "tokens", "tokens_per_parameter", "lead", "low", "high", "seeds")
MARKERS = "osD^vPX*"


class Point(NamedTuple):
    table: str
    lead: Lead


class Trend(NamedTuple):
    """Nats per doubling, its 95 % interval, and of what."""

    of: str
    value: float
    low: float
    high: float


def points(files: Sequence[Path]) -> list[Point]:
    seen: set[str] = set()
    found: list[Point] = []
    for file in files:
        rows = [row for row in finished(file, "id", *COLUMNS) if row["id"] not in seen]
        seen |= {row["id"] for row in rows}
        if rows:
            every = leads(runs_of(rows), confidence=CONFIDENCE)
            name = f"{file.parent.name}/{file.stem}"
            found += [Point(name, one) for one in every if one.experts == EXPERTS]
    return found or refuse(f"no table has a dense model and one of {EXPERTS} experts in pairs")


def trends(found: Sequence[Point], samples: int = 2000) -> list[Trend]:
    """Of the lead in doublings of tokens per parameter at one size, and in doublings of size at as
    many tokens per parameter: least squares over the cells, weighted by their seeds."""
    active, ratio, lead, seeds = np.array(
        [
            (p.lead.active, p.lead.tokens_per_parameter, p.lead.mean, len(p.lead.paired))
            for p in found
        ]
    ).T
    columns = np.stack([np.ones(len(found)), np.log2(ratio), np.log2(active)], axis=1)
    if np.linalg.matrix_rank(columns) < 3 or len(found) < 5:
        return []
    weight = np.sqrt(seeds / seeds.mean())
    solve = np.linalg.pinv(columns * weight[:, None])
    best = solve @ (lead * weight)
    random = np.random.default_rng(0)
    noise = wild(lead - columns @ best, columns, weight, samples, random).noise
    low, high = interval(best + (noise * weight) @ solve.T, CONFIDENCE)
    return [
        Trend("tokens per parameter", float(best[1]), float(low[1]), float(high[1])),
        Trend("active parameters", float(best[2]), float(low[2]), float(high[2])),
    ]


def rows_of(found: Sequence[Point]) -> list[dict[str, str]]:
    ordered = sorted(found, key=lambda p: (p.lead.active, p.lead.tokens_per_parameter, p.table))
    return [
        dict(
            zip(
                HEADS,
                (
                    table, f"{one.active:.0f}", f"{one.tokens:.0f}",
                    f"{one.tokens_per_parameter:.3g}", f"{one.mean:.4f}",
                    *(f"{end:.4f}" for end in one.interval or (np.nan, np.nan)),
                    str(len(one.paired)),
                ),
                strict=True,
            )
        )
        for table, one in ordered
    ]  # fmt: skip


def table(found: Sequence[Point]) -> str:
    lines = ["| active | tokens | tokens per parameter | lead | seeds | table |"]
    lines.append("| --- " * 6 + "|")
    for row in rows_of(found):
        low, high = (signed(float(row[end])) for end in ("low", "high"))
        numbers = si(float(row["active"])), si(float(row["tokens"])), row["tokens_per_parameter"]
        lead = f"{signed(float(row['lead']))} ({low}, {high})"
        lines.append(f"| {' | '.join((*numbers, lead, row['seeds'], row['table']))} |")
    return "\n".join(lines).replace("\xa0", " ")


def markdown(found: Sequence[Point]) -> str:
    lines = [table(found), ""]
    for one in trends(found):
        span = f"{signed(one.low, 4)} to {signed(one.high, 4)}"
        lines.append(f"Per doubling of {one.of}: {signed(one.value, 4)} nats ({span}).")
    return "\n".join(lines)


def figure(found: Sequence[Point]) -> Figure:
    drawn, [axes] = panels(PRINT, 1, size=(6.4, 4.0))
    axes.axhline(0, color=PRINT.muted, linewidth=1, linestyle=(0, (4, 3)))
    active = sorted({point.lead.active for point in found})
    tables = list(dict.fromkeys(point.table for point in found))
    for i, table in enumerate(tables):
        for j, size in enumerate(active):
            mine = [p.lead for p in found if (p.table, p.lead.active) == (table, size)]
            if not mine:
                continue
            mine.sort(key=lambda one: one.tokens)
            ends = np.array([one.interval or (one.mean, one.mean) for one in mine]).T
            middle = np.array([one.mean for one in mine])
            axes.errorbar(
                [one.tokens_per_parameter * 1.03 ** (i - len(tables) / 2) for one in mine], middle,
                np.abs(ends - middle), marker=MARKERS[i % len(MARKERS)], markersize=5, capsize=2.5,
                linewidth=1, color=PRINT.colour(j),
            )  # fmt: skip
    for j, size in enumerate(active):
        axes.plot([], [], "-", color=PRINT.colour(j), label=f"{si(size)} active")
    for i, table in enumerate(tables):
        mark = MARKERS[i % len(MARKERS)]
        axes.plot([], [], mark, color=PRINT.muted, markersize=5, label=table)
    log_axis(axes)
    axes.set_xlabel("training tokens per active parameter")
    axes.set_ylabel(f"lead of {EXPERTS} experts (nats per token)")
    axes.legend(fontsize=8, frameon=False, labelcolor=PRINT.ink, ncols=2)
    return drawn


def main(arguments: Sequence[str]) -> int:
    files = [Path(word) for word in arguments] or [STUDIES / name for name in TABLES]
    found = points(files)
    write(HERE / "leads.csv", HEADS, rows_of(found))
    for name, content in save(figure(found), "leads", "lead").items():
        (HERE / name).write_bytes(content)
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
