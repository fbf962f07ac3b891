"""The names of lm-eval's tasks, without its import: reading its 14,000 files as YAML takes it 16
seconds, and the names stand on lines of their own."""

import functools
import importlib.util
import re
from pathlib import Path

from glam.composition.overrides import choices
from glam.errors import UserError, nearest

# The lines that name a task, a group or a tag. A tag may have a list of names under it.
NAMED = re.compile(
    r"^\s*(?:- )?[\"']?(?:task|group|tag)[\"']?:[ \t]*[\"']?([^\s\"'#\[{]+)", re.MULTILINE
)
TAGGED = re.compile(r"^[\"']?tag[\"']?:[ \t]*\n((?:[ \t]*-[ \t]*\S+[ \t]*\n?)+)", re.MULTILINE)
SHOWN = 3  # near names in a message


def tasks_folder() -> Path:
    """Where lm-eval has its tasks. Raises UserError where lm-eval is not installed."""
    found = importlib.util.find_spec("lm_eval")
    if found is None or found.origin is None:
        raise UserError("the package lm_eval is not installed; make run sets up .venv")
    return Path(found.origin).parent / "tasks"


@functools.cache
def task_families() -> dict[str, set[Path]]:
    """By name of a task, group or tag: the folders directly below `tasks_folder` that name it."""
    root = tasks_folder()
    found: dict[str, set[Path]] = {}
    for file in root.rglob("*.yaml"):
        text = file.read_text(encoding="utf-8", errors="replace")
        tags = " ".join(TAGGED.findall(text)).replace("-\t", "- ").split()
        family = root / file.relative_to(root).parts[0]
        for name in {*NAMED.findall(text), *(tag for tag in tags if tag != "-")}:
            found.setdefault(name, set()).add(family)
    return found


def check_tasks(names: list[str]) -> None:
    """Raises UserError for a name that is neither a suite nor a task, group or tag of lm-eval,
    with the nearest ones."""
    suites = choices("evaluation")
    for name in names:
        if name in suites:
            raise UserError(
                f"evaluation={','.join(names)} mixes suites and tasks of lm-eval; take one "
                f"suite ({', '.join(suites)}), or tasks alone"
            )
        if name not in task_families():
            hint = nearest(name, [*suites, *task_families()])
            if hint.startswith("choose from"):
                hint = f"suites are {', '.join(suites)}; lm-eval's tasks: lm_eval ls tasks"
            raise UserError(
                f"evaluation={name}: there is no such suite, and no such task of lm-eval; {hint}"
            )
