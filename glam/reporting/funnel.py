"""How much of each source every step of the data pipeline kept."""
# matplotlib's stubs leave its keywords untyped.
# pyright: reportUnknownMemberType=false

from dataclasses import dataclass, replace
from typing import Any

from matplotlib.ticker import NullLocator
from rich.console import Console
from rich.table import Table
from rich.text import Text

from glam.reporting.page import Plot
from glam.reporting.theme import FONT, PAGE, inline_svg, panel, plain
from glam.reporting.theme import heading as title
from glam.units import counted, fixed, is_number, percent, si, whole

AMOUNTS = ("characters", "megabytes", "tokens")  # beside the documents; a step knows one, or both
HELD_OUT = "held out"  # a step aside: what it takes does not reach the step after it
MOST_FIGURES = 12


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step of the pipeline left of a source."""

    name: str
    documents: float | None
    amounts: dict[str, float | None]
    share: float | None  # of the text that the step before it handed on

    @property
    def size(self) -> float | None:
        """Characters, or tokens, or documents: the first that is known. Documents are cut into
        pages on the way, so that their number says little."""
        known = (*(self.amounts[name] for name in AMOUNTS), self.documents)
        return next((amount for amount in known if amount is not None), None)

    @property
    def is_aside(self) -> bool:
        return self.name == HELD_OUT


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of text, and what each step left of it."""

    name: str
    component: str
    role: str
    steps: list[Step]


def sources(rows: list[dict[str, Any]]) -> list[Source]:
    """The funnel's rows gathered by source, in the order in which they come."""
    by_source: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_source.setdefault(str(row.get("source", "")), []).append(row)
    return [
        Source(
            name=name,
            component=str(steps[0].get("component") or ""),
            role=str(steps[0].get("role") or ""),
            steps=_steps(steps),
        )
        for name, steps in by_source.items()
    ]


def amounts(found: list[Source]) -> list[str]:
    """The columns of the table beside the documents: those that any step knows."""
    steps = [step for source in found for step in source.steps]
    return [a for a in AMOUNTS if any(step.amounts[a] is not None for step in steps)]


def table(found: list[Source]) -> list[dict[str, Any]]:
    """A row for each step of each source, in words."""
    return [
        {
            "source": source.name if i == 0 else "",
            "role": ", ".join(filter(None, (source.component, source.role))) if i == 0 else "",
            "step": step.name,
            "documents": whole(step.documents),
            "amounts": [_in_words(name, step.amounts[name]) for name in amounts(found)],
            "share": percent(step.share),
        }
        for source in found
        for i, step in enumerate(source.steps)
    ]


def notes(rows: list[dict[str, Any]]) -> list[str]:
    """What was set aside of each source before the first step, and which copies were left out."""
    found: list[str] = []
    for row in rows:
        name = row.get("source", "")
        bad: dict[str, int] = row.get("bad_records") or {}
        if bad:
            kinds = ", ".join(f"{whole(count)} {kind}" for kind, count in bad.items())
            found.append(f"{name}: {counted(sum(bad.values()), 'bad record')} set aside ({kinds})")
        exact, near = (row.get(f"{kind}_copies") or 0 for kind in ("exact", "near"))
        if exact or near:
            found.append(f"{name}: {whole(exact)} exact and {whole(near)} near copies left out")
    return found


def show(rows: list[dict[str, Any]], console: Console | None = None) -> None:
    """The funnel in a terminal."""
    found = sources(rows)
    drawn = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    columns = ["source", "step", "documents", *amounts(found), "of the text"]
    for place, column in enumerate(columns):
        drawn.add_column(column, justify="left" if place < 2 else "right", overflow="fold")
    for row in table(found):
        cells = [row["source"], row["step"], row["documents"], *row["amounts"], row["share"]]
        drawn.add_row(*map(Text, cells))
    console = console or Console()
    console.print(drawn)
    for note in notes(rows):
        console.print(Text(note), soft_wrap=True)


def _in_words(name: str, amount: float | None) -> str:
    return fixed(amount, 1) if name == "megabytes" else si(amount)


def figures(found: list[Source]) -> list[Plot]:
    """Bars by source: the text left after each step."""
    colours = PAGE.domains([source.name for source in found])
    return [
        plot
        for i, source in enumerate(found[:MOST_FIGURES])
        if (plot := _figure(source, i, colours[source.name])) is not None
    ]


def _figure(source: Source, index: int, colour: str) -> Plot | None:
    sizes = [step.size or 0.0 for step in source.steps]
    if not any(sizes):
        return None
    figure, axes = panel(PAGE, width=3.6, height=0.6 + 0.27 * len(sizes))
    places = range(len(sizes))
    colours = [PAGE.muted if step.is_aside else colour for step in source.steps]
    axes.barh(places, sizes, height=0.5, color=colours)
    axes.set_yticks(places, [plain(step.name) for step in source.steps])
    axes.set_xlim(0, max(sizes) * 1.4)
    axes.xaxis.set_major_locator(NullLocator())
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    for place, size in zip(places, sizes, strict=True):
        axes.annotate(
            si(size),
            (size, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=PAGE.muted,
            fontsize=FONT,
        )
    title(axes, PAGE, source.name)
    words = ", ".join(f"{step.name} {si(step.size)}" for step in source.steps)
    svg = inline_svg(figure, f"funnel-{index}", f"Text of {source.name}: {words}.")
    return Plot(svg=svg, caption="")


def _steps(rows: list[dict[str, Any]]) -> list[Step]:
    steps: list[Step] = []
    before: float | None = None
    for row in rows:
        amounts = {name: _number(row.get(name)) for name in AMOUNTS}
        documents = _number(row.get("documents"))
        step = Step(name=str(row.get("step", "")), documents=documents, amounts=amounts, share=None)
        if before and step.size is not None:
            step = replace(step, share=step.size / before)
        steps.append(step)
        if not step.is_aside:
            before = step.size
    return steps


def _number(value: Any) -> float | None:
    return value if is_number(value) else None
