"""What a grid asks of a launcher."""

from collections.abc import Sequence
from typing import Protocol

from glam.config import RunConfig
from glam.studies.pool import Job


class Launcher(Protocol):
    """Runs jobs to their end; a job that fails stops no other."""

    @property
    def remote(self) -> bool:
        """Whether other machines run the jobs. They share this machine's files."""
        ...

    def check(self, jobs: Sequence[Job], config: RunConfig) -> None:
        """Called before anything is made; `config` is of any cell. Raises UserError where the jobs
        cannot be taken."""
        ...

    def run(self, jobs: Sequence[Job]) -> None:
        """Returns when every job has ended; its fate is in the job."""
        ...
