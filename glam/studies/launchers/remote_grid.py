"""Launchers whose jobs another program runs: submit them, and follow each to its end."""

import time
from collections.abc import Callable, Sequence

from glam.config import RunConfig
from glam.errors import Stopped, stopped_by
from glam.studies.launchers.job_handle import Executor, JobHandle
from glam.studies.pool import Job
from glam.studies.table import LiveTable
from glam.units import counted


class RemoteGrid:
    """See `glam.studies.launchers.launcher.Launcher`. `executor_of` makes the program's executor
    for a grid, given the configuration of any cell."""

    remote = True

    def __init__(self, executor_of: Callable[[RunConfig], Executor]) -> None:
        self._executor_of = executor_of

    def check(self, jobs: Sequence[Job], config: RunConfig) -> None:
        self._executor = self._executor_of(config)
        self._executor.check(jobs)

    def run(self, jobs: Sequence[Job]) -> None:
        """Ctrl-C ends the jobs of this machine, and leaves those of a cluster, which do without
        this process."""
        following = list(zip(jobs, self._executor.submit(jobs), strict=True))
        try:
            with LiveTable(list(jobs)) as table:
                while any(job.state in ("waiting", "running") for job in jobs):
                    for job, handle in following:
                        _follow(job, handle)
                    table.update()
                    time.sleep(0.5)
        except KeyboardInterrupt as interrupt:
            raise Stopped(_left(self._executor, following), stopped_by(interrupt)) from None
        self._executor.close()


def _follow(job: Job, submitted: JobHandle) -> None:
    """Read what has become of the job: of its figures while it runs, and of its end."""
    if job.state not in ("waiting", "running"):
        return
    if not submitted.done():
        job.read_progress()
        if job.state == "waiting" and job.progress:
            job.state, job.began = "running", time.monotonic()
        job.seconds = time.monotonic() - job.began if job.began else 0.0
        return
    try:
        job.state, job.error = submitted.result()
    except Exception as error:  # whatever is said of a job that left nothing
        job.state, job.error = "failed", submitted.lost(error)
        if job.run.path.is_dir() and not job.take_result():
            job.run.write_failure(job.error)
    job.take_result()


def _left(executor: Executor, following: Sequence[tuple[Job, JobHandle]]) -> str:
    """What becomes of the jobs after Ctrl-C, in a line."""
    left = [(job, one) for job, one in following if job.state in ("waiting", "running")]
    number = f"{len(left)} of {counted(len(following), 'job')}"
    if (how := executor.leave([one for _, one in left])) is None:
        for job, _ in left:
            job.state = "stopped"
        return f"stopped with {number} unfinished; the same command resumes"
    return (
        f"{number} continue without this command ({how} ends them); the same command, when "
        f"they are done, runs what is missing and writes the study"
    )
