"""`python run.py --help`: what can be run, and every key with its default."""

from rich.table import Table

from glam.composition.overrides import choices, groups, known_keys
from glam.reporting.console import Stdout

USAGE = """[bold]python run.py[/] \\[group=choice] \\[key=value] ...   one run
[bold]python run.py -m[/] key=value,value ...        a grid: one run for every combination
"""

EXAMPLES = {
    "": "train glam_tiny on real text and write a report",
    "model=glam_1b64e data=filtered": "the paper's 1.7B/64E, where it fits",
    "-m model.num_experts=1,8,16,32": "loss against experts at equal FLOPs",
    "-m experiment=expert_scaling/quick": "a study of the paper, in minutes; task=plan: its cost",
    "task=evaluate run=runs/...": "held-out loss per domain of a run",
    "task=generate run=runs/...": "text from a run (task.prompt=...)",
}

END = """Exit status: 0 done, 1 a job failed or diverged, 2 the line is refused, 130 after Ctrl-C.
The same line again skips what is done and goes on where it was cut off; rerun=true runs anew.
Show what a line composes to, without running it: --cfg job."""


def print_help() -> None:
    console = Stdout(highlight=False)
    console.print(USAGE)
    console.print(_examples())
    console.print(_groups())
    console.print(_keys())
    console.print(END)


def _examples() -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2))
    for arguments, does in EXAMPLES.items():
        table.add_row(f"python run.py {arguments}", does)
    return table


def _groups() -> Table:
    table = Table(title="\nGroups", title_justify="left", box=None, padding=(0, 2))
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
