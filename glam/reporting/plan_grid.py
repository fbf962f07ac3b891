"""The plans of a grid in a terminal: totals first, then a row for each distinct model."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from glam.reporting.plan_totals import Group, Totals
from glam.units import DASH, duration, energy, si, whole

HEADS = ("runs", "parameters", "memory", "tokens", "tokens/s", "time")
# By where a throughput is from, behind its number where the grid mixes sources.
MARKS = {"calibrated": "", "under load": "!", "modelled": "~", "stated": "="}


def print_grid(found: Sequence[Group], all_runs: Totals, notes: Sequence[str], to: Console) -> None:
    """Totals, table and notes; the page has the rest."""
    for label, text in total_rows(found, all_runs):
        to.print(Text(f"{label:<22}", style="dim") + Text(text, style="bold"), soft_wrap=True)
    to.print()
    to.print(_table(found, is_mixed=len(all_runs.hours_by_kind) > 1))
    for note in notes:
        to.print(Text(note, style="dim"))


def total_rows(found: Sequence[Group], all_runs: Totals) -> list[tuple[str, str]]:
    """Label and value: runs, hours, energy, and where the throughput is from."""
    at_once = f"{_time(all_runs.hours_at_once)} of training"
    return [
        ("runs", f"{whole(all_runs.runs)} of {_plural(len(found), 'distinct model')}"),
        ("one after the other", f"{_time(all_runs.hours)} of training"),
        *([(f"{all_runs.at_once} at once", at_once)] if all_runs.at_once > 1 else []),
        ("energy", energy(all_runs.joules)),
        ("throughput", _sources(all_runs)),
    ]


def _sources(all_runs: Totals) -> str:
    """`calibrated for 2 h 06 min, modelled for 1 h 10 min (~)`, or one word for all."""
    by_kind = all_runs.hours_by_kind
    if len(by_kind) == 1:
        return next(iter(by_kind))
    told = [
        f"{kind} for {_time(by_kind[kind])}" + (f" ({mark})" if mark else "")
        for kind, mark in MARKS.items()
        if kind in by_kind
    ]
    return ", ".join(told)


def _time(hours: float) -> str:
    return duration(3600 * hours)


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _table(found: Sequence[Group], *, is_mixed: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold dim")
    hardware = ", ".join(dict.fromkeys(str(group.plan["hardware"]) for group in found))
    table.add_column(f"hardware={hardware}", overflow="fold")
    for head in HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for group in found:
        table.add_row(Text(group.label), *_cells(group, is_mixed=is_mixed))
    return table


def _cells(group: Group, *, is_mixed: bool) -> list[str]:
    plan, mark = group.plan, MARKS[str(group.plan["throughput_kind"])] if is_mixed else ""
    held = plan["bytes_per_device"]
    memory = DASH if held is None else si(held["total"], "B") + ("" if held["fits"] else " NO")
    return [
        whole(group.runs),
        si(plan["parameters"]["total"]),
        memory,
        si(plan["tokens"]),
        mark + si(plan["tokens_per_second"]),
        _time(group.runs * plan["hours"]),
    ]
