"""A stage: one task for each shard, of which those that are in the cache are done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from glam.data.cache import Cache
from glam.progress import Bar, bar

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class StageTask:
    """Fills one folder of the cache. `inputs` are all that determines its content; `build` can be
    pickled: a function of a module, or a `functools.partial` of one."""

    inputs: dict[str, Any]
    build: Callable[[Path], None]
    size: int  # of the work, in the unit of the stage's bar


class Executor(Protocol):
    """Runs tasks, each at least once, and comes back when all are done. What a task raises is
    raised here, and ends the others."""

    def run(self, key: str, tasks: Sequence[Work], sizes: Sequence[int], running: Bar) -> None:
        """`key` names these tasks among all others; `running` is advanced by their `sizes`."""
        ...


def run_stage(
    executor: Executor, cache: Cache, name: str, tasks: Sequence[StageTask], label: str, unit: str
) -> list[Path]:
    """The folders of a stage's tasks, in their order. Those that the cache lacks are made under a
    bar that is called `label`."""
    missing = [task for task in tasks if not cache.holds(name, task.inputs)]
    if missing:
        sizes = [task.size for task in missing]
        work = [partial(cache.stage, name, task.inputs, task.build) for task in missing]
        key = f"{name}-{cache.key([task.inputs for task in missing])}"
        with bar(label, sum(sizes), unit) as running:
            executor.run(key, work, sizes, running)
    return [cache.folder(name, task.inputs) for task in tasks]
