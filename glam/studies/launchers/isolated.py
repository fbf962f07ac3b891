"""What the isolating launcher does: overrides to processes, and their fate to Hydra."""

import sys
from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus

from glam.composition.compose import Composer
from glam.config import ROOT
from glam.machine.resources import resolve
from glam.planning.memory import memory
from glam.runs.folder import RunFolder
from glam.studies.pool import Job, run_jobs
from glam.studies.table import LiveTable


def launch_isolated(job_overrides: Sequence[Sequence[str]], composer: Composer) -> list[JobReturn]:
    """Run every job to its end; a job that fails stops no other."""
    jobs = [job_of(list(overrides), composer) for overrides in job_overrides]
    with LiveTable(jobs) as table:
        run_jobs(jobs, watch=table.update)
    return [returned(job) for job in jobs]


def returned(job: Job) -> JobReturn:
    """The fate of a job, as Hydra knows it."""
    return JobReturn(
        overrides=job.command[2:],
        status=JobStatus.FAILED if job.error else JobStatus.COMPLETED,
        _return_value=RuntimeError(job.error) if job.error else None,
    )


def job_of(overrides: list[str], composer: Composer, *, remote: bool = False) -> Job:
    """The command of a cell, and what it needs; `elsewhere` it is another machine that has it."""
    config = composer.config(overrides)
    resources = resolve(config, remote=remote)
    run = RunFolder.of(config, resources)
    processes = config.hardware.devices if config.hardware.is_cluster else 1
    sharing = processes if resources.device == "cpu" else 1  # the machine's memory
    return Job(
        name=config.study.cell or run.path.name,
        command=[sys.executable, str(ROOT / "run.py"), *overrides],
        run=run,
        threads=resources.threads * processes,
        memory_bytes=memory(config, resources.precision).total * sharing,
        device_bytes=resources.memory_bytes * sharing,
        max_jobs=config.hardware.max_jobs,
    )
