"""The default launcher: every job a process of this machine, as many at once as it carries."""

from collections.abc import Sequence

from glam.config import RunConfig
from glam.studies.pool import Job, run_jobs
from glam.studies.table import LiveTable


class IsolatedLauncher:
    """See `glam.studies.launchers.launcher.Launcher`."""

    remote = False

    def check(self, jobs: Sequence[Job], config: RunConfig) -> None:
        """Every job was weighed with its cell."""

    def run(self, jobs: Sequence[Job]) -> None:
        with LiveTable(list(jobs)) as table:
            run_jobs(list(jobs), watch=table.update)
