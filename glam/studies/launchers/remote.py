"""What a cluster's process does for one cell of a grid, on whatever machine it is."""

import importlib
from dataclasses import replace
from typing import Any

from glam.studies.pool import Job, State, run_jobs, stop_jobs

PATIENCE = 60.0  # seconds a job has to save a checkpoint; a cluster warns it minutes before


class RemoteJob:
    """Runs a job in a process of its own, as the isolating launcher does here. Submitit pickles it
    and looks for `checkpoint`."""

    def __call__(self, job: Job) -> tuple[State, str | None]:
        """Run it to its end: its fate, and its error if it has one."""
        run_jobs([job], watch=lambda: None)
        return job.state, job.error

    def checkpoint(self, job: Job) -> Any:
        """Before time is up, or another job takes the machine: let the run save itself, and queue
        the job anew."""
        helpers: Any = importlib.import_module("submitit.helpers")
        if job.state == "running":
            stop_jobs([job], PATIENCE)
        return helpers.DelayedSubmission(self, replace(job, state="waiting", process=None))
