"""Tasks as jobs of Slurm: an array of datatrove's, waited for, and started again where it lost
some."""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glam.config import SlurmTasksConfig
from glam.data.executor.cluster import Jobs, be_quiet, jobs_of
from glam.data.executor.stage import Work
from glam.errors import JobFailedError, UserError, first_line
from glam.log import log
from glam.progress import Bar

SECONDS = 5.0  # between two looks
_ATTEMPTS = 3  # of tasks whose job ended without them


@dataclass(frozen=True)
class SlurmExecutor:
    """`folder`, which every machine of the cluster sees, holds scripts, logs and marks."""

    config: SlurmTasksConfig
    folder: Path

    def __post_init__(self) -> None:
        absent = [name for name in ("sbatch", "squeue") if shutil.which(name) is None]
        if absent:
            raise UserError(
                f"data.executor=slurm: this machine has no {absent[0]}; start it where jobs are "
                f"submitted, or set data.executor=local"
            )

    def run(self, key: str, tasks: Sequence[Work], sizes: Sequence[int], running: Bar) -> None:
        be_quiet()
        jobs = jobs_of(key, tasks, sizes, self.folder, running)
        left = len(tasks)
        for _ in range(_ATTEMPTS):
            submitted = self._submit(jobs, key, len(tasks))
            try:
                left = _wait(jobs, submitted)
            except BaseException:
                subprocess.run(["scancel", *submitted], capture_output=True)
                raise
            if not left:
                return
            log.warning(f"{key}: {left} of {len(tasks)} tasks ended unfinished: submitted again")
        raise JobFailedError(
            f"{key}: {left} of {len(tasks)} tasks did not finish in {_ATTEMPTS} tries; their "
            f"logs are in {jobs.rank.folder}/slurm_logs"
        )

    def _submit(self, jobs: Jobs, key: str, count: int) -> list[str]:
        """The ids of the arrays that do what is left."""
        config, submitted = self.config, list[str]()

        def retrieved(said: str) -> str:
            submitted.append(said.split()[-1])
            return submitted[-1]

        executor = _quiet_executor()(
            pipeline=[jobs.rank],
            tasks=count,
            time=config.time,
            partition=config.partition,
            qos=config.qos,
            mem_per_cpu_gb=config.memory_gb,
            workers=config.workers,
            job_name=key[:60],
            env_command=f'export PATH="{Path(sys.executable).parent}:$PATH"',
            sbatch_args=self._options(),
            max_array_size=config.array_size,
            max_array_launch_parallel=True,
            logging_dir=str(jobs.rank.folder),
            requeue=True,
            job_id_retriever=retrieved,
        )
        try:
            executor.run()
        except (OSError, subprocess.CalledProcessError) as error:
            raise UserError(
                f"data.executor=slurm: sbatch refuses the tasks ({first_line(error)}); see "
                f"data.slurm.partition, time, qos and options"
            ) from None
        return submitted

    def _options(self) -> dict[str, Any]:
        account = {"account": self.config.account} if self.config.account else {}
        return {**account, **self.config.options}


def _wait(jobs: Jobs, submitted: list[str]) -> int:
    """How many tasks are left when the cluster knows the arrays no more."""
    while left := jobs.look():
        if not _known(submitted):
            return jobs.look()
        time.sleep(SECONDS)
    return left


def _known(submitted: list[str]) -> bool:
    """Whether the cluster still has one of the arrays. A queue that does not answer may."""
    found = subprocess.run(
        ["squeue", "--noheader", "--jobs", ",".join(submitted)], capture_output=True, text=True
    )
    if found.returncode:
        return "Invalid job id" not in found.stderr
    return bool(found.stdout.strip())


def _quiet_executor() -> Any:
    from datatrove.executor.slurm import (  # pyright: ignore[reportMissingTypeStubs]
        SlurmPipelineExecutor,
    )

    class Executor(SlurmPipelineExecutor):
        """Without partition where none is named, and without a job that merges statistics."""

        def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
            parent: Any = super()  # whose methods have half their types
            found: dict[str, Any] = parent.get_sbatch_args(max_array)
            return {name: value for name, value in found.items() if value is not None}

        def launch_merge_stats(self) -> None:
            pass

    return Executor
