"""Tasks of Ray, through datatrove: on a cluster that runs, or on one of this machine."""

import os
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glam.config import RayTasksConfig
from glam.data.executor.cluster import Jobs, be_quiet, jobs_of
from glam.data.executor.stage import Work
from glam.errors import JobFailedError, UserError, first_line
from glam.machine.resources import num_cores
from glam.machine.waiting import limited
from glam.progress import Bar

SECONDS = 0.5  # between two looks
CONNECTING = 60.0  # seconds


@dataclass(frozen=True)
class RayExecutor:
    """`folder`, which every machine of the cluster sees, holds marks."""

    config: RayTasksConfig
    folder: Path

    def run(self, key: str, tasks: Sequence[Work], sizes: Sequence[int], running: Bar) -> None:
        be_quiet()
        jobs = jobs_of(key, tasks, sizes, self.folder, running)
        with self._connected(), _looking(jobs):
            self._executor(jobs, len(tasks)).run()
        if left := jobs.look():
            raise JobFailedError(
                f"{key}: {left} of {len(tasks)} tasks did not finish; Ray's log says why, or set "
                f"data.executor=local"
            )

    def _executor(self, jobs: Jobs, count: int) -> Any:
        from datatrove.executor.ray import (  # pyright: ignore[reportMissingTypeStubs]
            RayPipelineExecutor,
        )

        return RayPipelineExecutor(
            pipeline=[jobs.rank],
            tasks=count,
            workers=min(self.config.workers, count),
            mem_per_cpu_gb=self.config.memory_gb,
            logging_dir=str(jobs.rank.folder),
        )

    @contextmanager
    def _connected(self) -> Generator[None]:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        library: Any = ray
        address = self.config.address or "local"
        how: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address == "local":
            how |= {"num_cpus": num_cores(), "include_dashboard": False}
        way = "start one with `ray start --head`, or leave data.ray.address out"
        try:
            with limited(f"Ray at data.ray.address={address}", way, CONNECTING):
                library.init(address=address, **how)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"data.ray.address={address}: no Ray there ({first_line(error)}); {way}"
            ) from None
        try:
            yield
        finally:
            library.shutdown()


@contextmanager
def _looking(jobs: Jobs) -> Generator[None]:
    """Moves the bar while datatrove waits for Ray."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(SECONDS):
            jobs.look()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
