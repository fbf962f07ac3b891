"""What the isolating launcher does: overrides to processes, and their fate to Hydra."""

import sys
from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from glam.accounting.memory import memory
from glam.cli.compose import Composer
from glam.config import ROOT
from glam.resources import resolve
from glam.runs import RunFolder
from glam.studies.pool import Job, run_jobs
from glam.studies.table import LiveTable


def launch_isolated(
    job_overrides: Sequence[Sequence[str]], master: DictConfig, loader: ConfigLoader
) -> list[JobReturn]:
    """Run every job to its end; a job that fails stops no other."""
    composer = Composer(loader, master)
    jobs = [_job(list(overrides), composer) for overrides in job_overrides]
    with LiveTable(jobs) as table:
        run_jobs(jobs, watch=table.update)
    return [
        JobReturn(
            overrides=job.command[2:],
            status=JobStatus.FAILED if job.error else JobStatus.COMPLETED,
            _return_value=RuntimeError(job.error) if job.error else None,
        )
        for job in jobs
    ]


def _job(overrides: list[str], composer: Composer) -> Job:
    config = composer.config(overrides)
    resources = resolve(config)
    run = RunFolder.of(config, resources)
    return Job(
        name=config.study.cell or run.path.name,
        command=[sys.executable, str(ROOT / "run.py"), *overrides],
        run=run,
        threads=resources.threads,
        memory_bytes=memory(config, resources.precision).total,
        max_jobs=config.hardware.max_jobs,
    )
