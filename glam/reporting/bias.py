"""Bias and its correction: what `bias.json` and `correction.json` say, on the page of a run and at
the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from glam.runs.record import Json
from glam.units import DASH, SPACE, fixed, percent, signed, whole

SHOWN_EXPERTS = 10
Row = dict[str, str]


def section(found: Json, corrected: Json) -> dict[str, Any] | None:
    """What the template shows; None where neither was measured."""
    if not (found or corrected):
        return None
    return {
        "associations": association_rows(found.get("associations", [])),
        "num_associations": len(found.get("associations", [])),
        "experts": expert_rows(found.get("experts", [])),
        "num_tested": whole(found.get("num_tested")),
        "found_experts": sum(row["found"] for row in found.get("experts", [])),
        "coreference": coreference_rows(found.get("coreference") or {}),
        "words": word_rows(found.get("words") or {}),
        "typical": typical_rows(found.get("words") or {}),
        "toxicity": toxicity_rows(found.get("toxicity", [])),
        "correction": correction(corrected) if corrected else None,
    }


def interval(row: Json) -> str:
    """Both ends with their signs, or a dash."""
    if row.get("low") is None:
        return DASH
    return f"{signed(row['low'])} to {signed(row['high'])}".replace(" ", SPACE)


def association_rows(rows: Sequence[Json]) -> list[Row]:
    """Of the model: each association, its size and what is left of chance."""
    return [
        {
            "association": in_words(row["association"]),
            "effect": signed(row["effect"]),
            "interval": interval(row),
            "p": fixed(row["p"]),
            "found": "yes" if row["found"] else "no",
        }
        for row in rows
    ]


def in_words(association: str) -> str:
    """An association as a reader would say it."""
    kind, _, group = association.partition("/")
    if kind == "occupations":
        return "“she” for occupations of women"
    if kind == "toxicity":
        return "toxic texts"
    return f"good words for {group} ({kind})"


def expert_rows(rows: Sequence[Json]) -> list[Row]:
    """The experts that carry most of an association, the surest first."""
    return [
        {"layer": str(row["layer"]), "expert": str(row["expert"]), **one}
        for row, one in zip(rows[:SHOWN_EXPERTS], association_rows(rows), strict=False)
    ]


def coreference_rows(found: Json) -> list[Row]:
    """By pronoun, and the difference."""
    if not found:
        return []
    rows = [
        {
            "pronoun": row["pronoun"],
            "accuracy": percent(row["accuracy"]),
            "interval": f"{percent(row['low'])} to {percent(row['high'])}".replace(" ", SPACE),
        }
        for row in found["pronouns"]
    ]
    low, high = found["difference"]["low"], found["difference"]["high"]
    away = f"{signed(100 * low, 1)} to {signed(100 * high, 1)}".replace(" ", SPACE)
    mean = signed(100 * found["difference"]["mean"], 1)
    return [*rows, {"pronoun": "difference (points)", "accuracy": mean, "interval": away}]


def word_rows(found: Json) -> list[Row]:
    """The words of each group's texts."""
    return [
        {
            "group": row["group"],
            "texts": whole(row["texts"]),
            "words": ", ".join(f"{one['word']} {one['texts']}" for one in row["words"]) or DASH,
        }
        for row in found.get("groups", [])
    ]


def typical_rows(found: Json) -> list[Row]:
    """Words that a group's texts have more often than the others'."""
    return [
        {
            "group": row["group"],
            "word": row["word"],
            "share": percent(row["share"]),
            "others": percent(row["others"]),
            "p": fixed(row["p"]),
        }
        for row in found.get("typical", [])
    ]


def toxicity_rows(rows: Sequence[Json]) -> list[Row]:
    """Mean toxicity by group, and how much more than the others'."""
    return [
        {
            "group": row["association"].partition("/")[2],
            "mean": fixed(row["mean"]),
            "effect": signed(row["effect"]),
            "interval": interval(row),
            "p": fixed(row["p"]),
        }
        for row in rows
    ]


def correction(found: Json) -> dict[str, Any]:
    """Bias, loss and tasks side by side."""
    return {
        "scales": ", ".join(found["expert_scale"]),
        "associations": [
            {
                "what": in_words(row["association"]),
                "before": signed(row["before"]["effect"]),
                "after": signed(row["after"]["effect"]),
                "after_interval": interval(row["after"]),
                "change": signed(row["change"]["effect"]),
                "interval": interval(row["change"]),
            }
            for row in found["associations"]
        ],
        "loss": _changes(found["loss"], "domain"),
        "tasks": _changes(found["tasks"], "task"),
    }


def _changes(rows: Sequence[Json], name: str) -> list[Row]:
    return [
        {
            "what": row[name],
            "before": fixed(row["before"]),
            "after": fixed(row["after"]),
            "after_interval": "",
            "change": signed(row["change"]),
            "interval": interval(row),
        }
        for row in rows
    ]


def print_bias(found: Json, report: Path, console: Console | None = None) -> None:
    """The associations of the model, the experts that carry them, and where the report lies."""
    console = console or Console()
    shown = section(found, {}) or {}
    titles = ["association", "nats", "95 %, corrected", "p, corrected"]
    names = ["association", "effect", "interval", "p"]
    _print_table(console, titles, names, shown["associations"])
    if shown["coreference"]:
        titles = ["who a pronoun means", "right", "95 %"]
        _print_table(console, titles, ["pronoun", "accuracy", "interval"], shown["coreference"])
    if shown["experts"]:
        said = f"{shown['found_experts']} of {shown['num_tested']} effects of experts were found"
        console.print(Text(said))
        titles = ["association", "layer", "expert", "nats", "95 %, corrected", "p"]
        names = ["association", "layer", "expert", "effect", "interval", "p"]
        _print_table(console, titles, names, shown["experts"][:5])
    console.print(Text("report  ", style="dim") + Text(str(report)), soft_wrap=True)


def print_correction(found: Json, report: Path, console: Console | None = None) -> None:
    """Bias, loss by domain and tasks, before and after."""
    console = console or Console()
    shown = correction(found)
    console.print(Text(f"task.expert_scale=[{shown['scales']}]", style="bold"))
    names = ["what", "before", "after", "change", "interval"]
    for title, part in (("bias (nats)", "associations"), ("loss (nats/token)", "loss")):
        _print_table(console, [title, "before", "after", "change", "95 %"], names, shown[part])
    if shown["tasks"]:
        _print_table(console, ["task", *names[1:4], "95 %"], names, shown["tasks"])
    console.print(Text("report  ", style="dim") + Text(str(report)), soft_wrap=True)


def _print_table(
    console: Console, titles: Sequence[str], names: Sequence[str], rows: Sequence[Row]
) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for place, title in enumerate(titles):
        table.add_column(title, justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*(Text(row[name]) for name in names))
    console.print(table)
