"""Tasks that lm-eval brings, by their names: `evaluation=arc_easy,piqa`."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from glam.composition.harness import check_tasks, task_families
from glam.config import EvaluationConfig
from glam.errors import UserError
from glam.evaluation.suites.base import SUITES, LoadedSuite, Suite

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

    from glam.data import PreparedData

LONGEST_NAME = 60  # of a suite's files, which are named after its tasks


@SUITES.register
class LmEvalTasks(Suite):
    """Whatever lm-eval has: tasks, groups and tags, each with its own prompts and metrics."""

    name = "lm_eval"

    def check(self, evaluation: EvaluationConfig) -> None:
        if not evaluation.tasks:
            raise UserError(
                f"evaluation={self.name} needs names of lm-eval's tasks; type them in its place, "
                f"for example evaluation=arc_easy,piqa"
            )
        check_tasks(evaluation.tasks)

    def load(self, evaluation: EvaluationConfig, prepared: "PreparedData | None") -> LoadedSuite:
        from glam.evaluation.harness import MissingDataError, data_from, quiet

        self.check(evaluation)
        names = evaluation.tasks
        tasks: dict[str, Any] = {}
        averages: dict[str, tuple[str, ...]] = {}
        missing: dict[str, str] = {}
        with quiet(), data_from(evaluation.data_dir):
            manager = _manager(names)
            for name in names:
                try:
                    loaded = manager.load([name])
                except MissingDataError as error:
                    missing[name] = str(error)
                    continue
                tasks |= loaded["tasks"]
                if set(loaded["tasks"]) != {name}:
                    averages[name] = tuple(loaded["tasks"])
        if not tasks:
            task, why = next(iter(missing.items()))
            raise UserError(f"evaluation={','.join(names)}: nothing to judge; {task}: {why}")
        return LoadedSuite(name=_file_name(names), tasks=tasks, missing=missing, averages=averages)


def _manager(names: Sequence[str]) -> "TaskManager":
    """One that knows the named tasks and what their groups consist of. Reading all of lm-eval's
    tasks takes it 16 seconds."""
    from lm_eval.tasks import TaskManager

    wanted, known = set(names), set[str]()
    while True:
        folders = {folder for name in wanted for folder in task_families().get(name, ())}
        manager = TaskManager(include_defaults=False, include_path=sorted(map(str, folders)))
        known, before = {name for name in wanted if name in manager.task_index}, known
        wanted |= {part for name in known for part in _parts(manager, name)}
        if known == before:
            return manager


def _parts(manager: "TaskManager", name: str) -> set[str]:
    """The names that a group or a tag lists, at any depth."""
    entry = manager.task_index[name]
    listed: Any = (entry.cfg or {}).get("task")
    found, todo = set(entry.tags) if entry.yaml_path is None else set[str](), [listed]
    while todo:
        part = todo.pop()
        if isinstance(part, list):
            todo += part
        elif isinstance(part, dict):
            todo += [part.get("task"), part.get("group")]
        elif isinstance(part, str):
            found.add(part)
    return found - {name}


def _file_name(names: Sequence[str]) -> str:
    """The tasks' names, or as many letters as fit and a hash."""
    whole = "+".join(names)
    if len(whole) <= LONGEST_NAME:
        return whole
    return f"{whole[:LONGEST_NAME]}-{hashlib.sha256(whole.encode()).hexdigest()[:6]}"
