"""The result of a run in a terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from glam.units import counted, duration, energy, fixed, si, whole

MOST_TASKS = 8  # that are named in the terminal


def print_summary(summary: Mapping[str, Any], report: Path, console: Console | None = None) -> None:
    """Held-out loss and bits per byte by domain, speed, energy, and where the report lies."""
    console = console or Console()
    status = summary.get("status", "unfinished")
    head = Text(str(summary.get("name") or summary.get("id") or "run"), style="bold")
    head.append(f"  {status}", style="green" if status == "done" else "bold yellow")
    console.print(head)
    console.print(_held_out(summary))
    console.print(_facts(summary))
    console.print(Text("report  ", style="dim") + Text(str(report)), soft_wrap=True)


def print_losses(losses: Mapping[str, Mapping[str, float]]) -> None:
    """Held-out losses and bits per byte by domain, of an evaluation alone."""
    Console().print(_held_out(losses))


def _held_out(summary: Mapping[str, Any]) -> Table:
    loss: Mapping[str, Any] = summary.get("loss") or {}
    clean: Mapping[str, Any] = summary.get("clean_loss") or {}
    bits: Mapping[str, Any] = summary.get("bits_per_byte") or {}
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("held out")
    table.add_column("loss (nats/token)", justify="right")
    if clean:
        table.add_column("clean", justify="right")
    table.add_column("bits/byte", justify="right")
    for domain in [*(name for name in loss if name != "mean"), "mean"]:
        numbers = [each.get(domain) for each in ([loss, clean, bits] if clean else [loss, bits])]
        style = "bold" if domain == "mean" else None
        table.add_row(Text(domain), *map(fixed, numbers), style=style)
    return table


def _facts(summary: Mapping[str, Any]) -> Table:
    energy_used: Mapping[str, Any] = summary.get("energy") or {}
    parameters: Mapping[str, Any] = summary.get("parameters") or {}
    source = energy_used.get("source")
    facts = {
        "parameters": f"{si(parameters.get('total'))} total, "
        f"{si(parameters.get('active'))} active per token",
        "trained": f"{si(summary.get('tokens'))} tokens in "
        f"{duration(summary.get('train_seconds'))}, "
        f"{whole(summary.get('tokens_per_second'))} tokens/s"
        + (f", {mfu:.1%} of the peak" if (mfu := summary.get("mfu")) else ""),
        "energy": energy(energy_used.get("joules")) + (f", {source}" if source else ""),
    }
    facts |= {f"tasks, {suite}": _tasks(tasks) for suite, tasks in _suites(summary)}
    table = Table(box=None, padding=(0, 2), show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        table.add_row(name, Text(fact))
    return table


def _suites(summary: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The suites of tasks that have scores."""
    suites: Mapping[str, dict[str, Any]] = summary.get("tasks") or {}
    return [(name, tasks) for name, tasks in suites.items() if tasks]


def _tasks(tasks: Mapping[str, Any]) -> str:
    """Every score of a suite in a line, and how many are told from chance."""
    from glam.analysis.tasks import above_chance, is_above_chance  # scipy

    scores = ", ".join(f"{name} {fixed(one['value'], 2)}" for name, one in tasks.items())
    if len(tasks) > MOST_TASKS:
        scores = counted(len(tasks), "score")
    p_values = above_chance(tasks)
    told = sum(map(is_above_chance, p_values.values()))
    return scores + (f"; {told} of {len(p_values)} told from chance" if p_values else "")
