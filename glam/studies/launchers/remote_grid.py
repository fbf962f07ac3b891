"""What the launchers of elsewhere do: cells to another program, and their fate to Hydra."""

import signal
import time
from collections.abc import Callable, Sequence

from hydra.core.utils import JobReturn

from glam.composition.compose import Composer
from glam.config import RunConfig
from glam.studies.launchers.isolated import job_of, returned
from glam.studies.launchers.job_handle import Executor, JobHandle
from glam.studies.pool import Job
from glam.studies.table import LiveTable


class RemoteGrid:
    """Jobs for another program. Raises UserError where it cannot take them."""

    def __init__(
        self,
        job_overrides: Sequence[Sequence[str]],
        composer: Composer,
        executor_of: Callable[[RunConfig], Executor],
    ) -> None:
        self.jobs = [job_of(list(words), composer, remote=True) for words in job_overrides]
        self.executor = executor_of(composer.config(job_overrides[0]))
        self.executor.check(self.jobs)

    def launch(self) -> list[JobReturn]:
        """Submit every job, and follow them to their end; a job that fails stops no other. Ctrl-C
        ends the jobs of this machine, and leaves those of a cluster that can do without us."""
        following = list(zip(self.jobs, self.executor.submit(self.jobs), strict=True))
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
        try:
            with LiveTable(self.jobs) as table:
                while any(job.state in ("waiting", "running") for job in self.jobs):
                    for job, submitted in following:
                        _follow(job, submitted)
                    table.update()
                    time.sleep(0.5)
        except KeyboardInterrupt:
            raise _left(self.executor, following) from None
        self.executor.close()
        return [returned(job) for job in self.jobs]


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


def _left(executor: Executor, following: Sequence[tuple[Job, JobHandle]]) -> KeyboardInterrupt:
    """After Ctrl-C."""
    left = [(job, one) for job, one in following if job.state in ("waiting", "running")]
    number = f"{len(left)} of {len(following)} jobs"
    if (how := executor.leave([one for _, one in left])) is None:
        for job, _ in left:
            job.state = "stopped"
        return KeyboardInterrupt(f"stopped with {number} unfinished; the same line again goes on")
    return KeyboardInterrupt(
        f"{number} go on without this line ({how} ends them); the same line again, when "
        f"they are done, runs what is missing and writes the study"
    )
