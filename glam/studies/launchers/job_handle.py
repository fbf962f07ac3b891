"""Jobs that are in the hands of another program, which starts them where and when it likes."""

from collections.abc import Sequence
from typing import Protocol

from glam.studies.pool import Job, State


class JobHandle(Protocol):
    """One job there."""

    def done(self) -> bool:
        """Whether it has ended, or was lost."""
        ...

    def result(self) -> tuple[State, str | None]:
        """Its fate, and its error if it has one. Raises whatever the program says of a job that
        left nothing."""
        ...

    def lost(self, error: Exception) -> str:
        """Such a job in a line."""
        ...


class Executor(Protocol):
    """The program."""

    def check(self, jobs: Sequence[Job]) -> None:
        """Raises UserError where it is not there, or could never run one of these."""
        ...

    def submit(self, jobs: Sequence[Job]) -> Sequence[JobHandle]: ...

    def leave(self, unfinished: Sequence[JobHandle]) -> str | None:
        """After Ctrl-C: end these, or say how they are ended, if they go on without us."""
        ...

    def close(self) -> None:
        """When every job has ended."""
        ...
