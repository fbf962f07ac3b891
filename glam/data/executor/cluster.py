"""Jobs that datatrove starts, and how they fare: their folder tells.

A task there is done by a process below the job's own, as on one machine: a process that is killed
is replaced at once, where datatrove's own would be waited for.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from glam.data.executor.pool import run_in_processes
from glam.data.executor.stage import Work
from glam.errors import UserError
from glam.progress import Bar

_PACKAGES = {"slurm": "datatrove", "ray": "ray"}


def check_installed(executor: str) -> None:
    """Raises UserError where a package is missing."""
    package = _PACKAGES[executor]
    if find_spec(package) is None:
        raise UserError(
            f"data.executor={executor} needs {package}; pip install 'glam[scale]', or "
            f"data.executor=local"
        )


@dataclass(frozen=True)
class Rank:
    """The step of a pipeline of datatrove: task `rank`, in a process of its own."""

    key: str
    tasks: list[Work]
    sizes: list[int]
    folder: Path  # of the stage's jobs

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> None:
        running = Bar(f"{self.key} {rank}", self.sizes[rank])
        try:
            run_in_processes(self.key, [self.tasks[rank]], [self.sizes[rank]], running, 1)
        except UserError as error:
            self.refusal(rank).write_text(str(error))
            raise

    def refusal(self, rank: int) -> Path:
        """Where a job writes why its task is refused."""
        return self.folder / f"refused-{rank:05d}.txt"


@dataclass
class Jobs:
    """The jobs of a stage, as their folder shows them."""

    rank: Rank
    running: Bar

    def __post_init__(self) -> None:
        # Marks of an earlier try: what they finished is in the cache, or was lost since.
        shutil.rmtree(self.rank.folder, ignore_errors=True)
        self.rank.folder.mkdir(parents=True)
        self._told = set[int]()

    def look(self) -> int:
        """Advances the bar by what is done since the last look; how many tasks are left. Raises
        UserError where a job refused its task."""
        for number, size in enumerate(self.rank.sizes):
            if (file := self.rank.refusal(number)).exists():
                raise UserError(file.read_text())
            mark = self.rank.folder / "completions" / f"{number:05d}"
            if number not in self._told and mark.exists():
                self._told.add(number)
                self.running.advance(size)
        return len(self.rank.sizes) - len(self._told)


def jobs_of(
    key: str, tasks: Sequence[Work], sizes: Sequence[int], folder: Path, running: Bar
) -> Jobs:
    """The jobs of a stage in a folder of their own below `folder`."""
    return Jobs(Rank(key, list(tasks), list(sizes), folder / key), running)


def be_quiet() -> None:
    """datatrove tells every step through loguru: ours is a bar."""
    from loguru import logger

    logger.remove()
