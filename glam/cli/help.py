"""`python run.py --help`: what can be run, and every key with its default."""

from rich.console import Console
from rich.table import Table

from glam.cli.overrides import choices, groups, known_keys

USAGE = """[bold]python run.py[/] \\[group=choice] \\[key=value] ...      one run
[bold]python run.py -m[/] key=value,value ...             a grid: every combination, one table and figure

  python run.py                                     trains glam_tiny on real text, writes a report
  python run.py model=glam_1b64e data=filtered      the paper's 1.7B/64E, where it fits
  python run.py -m model.num_experts=1,8,16,32      loss against experts at equal FLOPs per token
  python run.py task=evaluate checkpoint=runs/...   held-out loss per domain of a trained run
  python run.py task=generate checkpoint=runs/... 'task.prompt="Once upon a time"'
"""

END = """Exit status: 0 done, 1 a job failed or diverged, 2 the line is refused, 130 after Ctrl-C.
The same line again skips what is done and goes on where it was cut off; rerun=true runs anew.
Show what a line composes to, without running it: --cfg job."""


def print_help() -> None:
    console = Console(highlight=False)
    console.print(USAGE)
    console.print(_groups())
    console.print(_keys())
    console.print(END)


def _groups() -> Table:
    table = Table(title="Groups", title_justify="left", box=None, padding=(0, 2))
    table.add_column("group", style="bold", no_wrap=True)
    table.add_column("choices")
    for group in groups():
        if names := choices(group):
            table.add_row(group, " ".join(names))
    return table


def _keys() -> Table:
    table = Table(title="\nKeys and defaults", title_justify="left", box=None, padding=(0, 2))
    table.add_column("section", style="bold", no_wrap=True)
    table.add_column("key=default")
    sections: dict[str, list[str]] = {}
    for key, default in known_keys().items():
        section, _, name = key.rpartition(".")
        value = (
            "null"
            if default is None
            else str(default).lower()
            if isinstance(default, bool)
            else default
        )
        sections.setdefault(section or "(top)", []).append(f"{name}={value}")
    for section in sorted(sections):
        table.add_row(section, "  ".join(sections[section]).replace("[", "\\["))
    return table
