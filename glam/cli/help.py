"""`python run.py --help` lists groups, choices and keys; `--help model` says what each key means.

The words are those of the dataclasses (`glam.composition.keys`) and of the files in `conf/`.
"""

import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

import glam
from glam.composition.aliases import meant_by
from glam.composition.keys import Key, all_keys, known_keys, sections
from glam.composition.overrides import CONF, choices, groups
from glam.config import LAUNCHERS
from glam.errors import UserError

USAGE = {
    "[group=choice] [key=value] ...": "one run",
    "-m key=value,value ...": "a grid: one run for every combination",
    "--help model": "the keys of a section, or one key, explained",
}

EXAMPLES = {
    "": "train glam_tiny on real text and write a report",
    "model=glam_1b64e data=filtered": "the paper's 1.7B/64E, where it fits",
    "-m model.num_experts=1,8,16,32": "loss against experts at equal FLOPs",
    "-m experiment=expert_scaling/quick": "a study of the paper, in minutes; task=plan: its cost",
    "task=list": "the runs and studies that are there",
    "task=evaluate run=latest": "held-out loss per domain of a run",
    "task=analyze run=latest": "what a run's experts specialise in",
    "task=bias run=latest": "what a run associates with groups of people, and by which experts",
    "task=generate run=latest": "text from a run (task.prompt=...)",
    "task=export run=latest export.path=exported": "a folder for Hugging Face's libraries",
}

END = """
Whole numbers may be typed as 100k, 2M, 1.5B or 1e5.
run= takes a folder, latest, or the unique beginning of a run's name or id.
Exit status: 0 done, 1 a job failed or diverged, 2 the command is refused, 130 after Ctrl-C,
143 after SIGTERM.
The same command skips what is done and resumes what was cut off; rerun=true runs it again.
--cfg job shows the whole configuration without running it; --version the versions."""


def print_version() -> None:
    """glam's version, PyTorch's and Python's."""
    torch = importlib.metadata.version("torch")
    print(f"glam {glam.__version__}, torch {torch}, Python {platform.python_version()}")


def print_help(topics: list[str]) -> None:
    """Everything in brief, or each of `topics` (a group, a section or a key) in full. Raises
    UserError for one that does not exist."""
    console = Console(highlight=False)
    for topic in topics:
        _print_topic(topic.lstrip("+~").partition("=")[0], console)
    if topics:
        return
    console.print(_usage())
    console.print(_examples())
    console.print(_groups())
    console.print(_keys())
    console.print(END)


def _print_topic(topic: str, console: Console) -> None:
    dotted, group = topic.replace("/", "."), topic.replace(".", "/")
    found = [k for k in all_keys() if dotted in (k.name, k.section, k.field)]
    # `--help model` shows model.router too, and `--help tokens` training.tokens.
    inside = [k for k in all_keys() if k.section.startswith(f"{dotted}.")]
    if dotted in sections():
        found = [k for k in all_keys() if dotted in (k.name, k.section)]
    is_group = group in groups() and choices(group)
    if not found and not inside and not is_group:
        raise UserError(f"--help {topic}: no such key or group; {meant_by(dotted, groups())}")
    if is_group:
        console.print(_choices(group))
    keys = [*found, *inside]
    for kind, section in dict.fromkeys((k.kind, k.section) for k in keys):
        rows = [k for k in keys if (k.kind, k.section) == (kind, section)]
        console.print(_meanings(_title(kind, section), rows))


def _title(kind: type, section: str) -> str:
    """The section, the choice that brings `kind` where it has several, and its docstring."""
    several = {k.kind for k in all_keys() if k.section == section}
    name = section or "(top)"
    if len(several) > 1:
        name = f"{section.replace('.', '/')}={vars(kind())['name']}"
    words = " ".join((kind.__doc__ or "").split())
    return f"[bold]{name}[/]  {escape(words)}"


def _meanings(title: str, keys: list[Key]) -> Table:
    table = _table(f"\n{title}")
    table.add_column("key", no_wrap=True, style="bold")
    table.add_column("default", overflow="fold")
    table.add_column("unit", style="dim")
    table.add_column("meaning", overflow="fold")
    for key in keys:
        kind = "" if key.type is type(key.default) else f" ({key.type_name})"
        table.add_row(key.name, Text(_shown(key.default) + kind), Text(key.unit), Text(key.meaning))
    return table


def _choices(group: str) -> Table:
    """The files of a group, each with the comment it begins with."""
    table = _table(f"\n[bold]{group}[/]  choices, the files of conf/{group}")
    table.add_column("choice", no_wrap=True, style="bold")
    table.add_column("what it is", overflow="fold")
    for name in choices(group):
        table.add_row(f"{group}={name}", Text(_first_comment(CONF / group / f"{name}.yaml")))
    return table


def _first_comment(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("# @package")]
    words: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            break
        words.append(line.lstrip("# "))
    if not words and (base := re.search(r"defaults: \[/experiment/([\w/]+)", "\n".join(lines))):
        return f"the long form of {base[1]}"
    return " ".join(words)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="", box=None, padding=(0, 2))


def _shown(value: Any) -> str:
    """As one would type it."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"  # pyright: ignore[reportUnknownArgumentType]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _usage() -> Table:
    return _commands(USAGE, "Usage")


def _examples() -> Table:
    return _commands(EXAMPLES, "Examples")


def _commands(commands: dict[str, str], title: str) -> Table:
    """Arguments of `python run.py`, whole where the terminal is wide enough, and what they do."""
    table = _table(f"\n[italic]{title}[/]")
    table.show_header = False
    for arguments, does in commands.items():
        table.add_row(Text(f"python run.py {arguments}"), does)
    return table


def _groups() -> Table:
    table = _table("\n[italic]Groups[/]")
    table.add_column("group", style="bold", no_wrap=True)
    table.add_column("choices")
    for group in groups():
        if names := choices(group):
            table.add_row(group, " ".join(names))
    for key in all_keys():
        if key.choices:
            table.add_row(key.name, " ".join(key.choices))
    table.add_row(LAUNCHERS.key, " ".join(LAUNCHERS))
    return table


def _keys() -> Table:
    table = _table("\n[italic]Keys and defaults[/]")
    table.add_column("section", style="bold", no_wrap=True)
    table.add_column("key=default")
    by_section: dict[str, list[str]] = {}
    for key, default in known_keys().items():
        section, _, name = key.rpartition(".")
        by_section.setdefault(section or "(top)", []).append(f"{name}={_shown(default)}")
    for section in sorted(by_section):
        table.add_row(section, escape("  ".join(by_section[section])))
    return table
