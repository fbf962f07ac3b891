"""Tasks of Ray: on a cluster that runs, or on one of this machine.

Ray itself does again a task whose process or machine was lost. (By its source, datatrove
0.10 keeps one of Python's pools of processes within each of Ray's tasks, and such a pool does not
do again what a killed process had in hand.)
"""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from glam.config import RayTasksConfig
from glam.data.executor.progress import as_worker
from glam.data.executor.stage import Work
from glam.errors import JobFailedError, UserError, first_line
from glam.machine.processes import LOOPBACK
from glam.machine.resources import num_cores
from glam.machine.waiting import limited
from glam.progress import Bar

_AGAIN = 2  # times that a lost task is done again
_SECONDS = 0.5  # between two looks
_CONNECTING = 60.0  # seconds; a Ray of this machine's own starts in ten


@dataclass(frozen=True)
class RayExecutor:
    """Each task takes one core and `memory_gb`; Ray starts as many as the cluster has room for."""

    config: RayTasksConfig

    def run(self, key: str, tasks: Sequence[Work], sizes: Sequence[int], running: Bar) -> None:
        with self._connected() as ray:
            remote = ray.remote(max_calls=1, max_retries=_AGAIN)(as_worker)
            needs = {"num_cpus": 1, "memory": int(self.config.memory_gb * 1e9)}
            start = remote.options(name=key, **needs).remote
            size_of = {start(task): size for task, size in zip(tasks, sizes, strict=True)}
            left = list(size_of)
            while left:
                done, left = ray.wait(left, num_returns=len(left), timeout=_SECONDS)
                for task in done:
                    _check(ray, task, key)
                    running.advance(size_of[task])

    @contextmanager
    def _connected(self) -> Generator[Any]:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        library: Any = ray
        address = self.config.address or "local"
        how: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address == "local":
            how |= {"num_cpus": num_cores(), "include_dashboard": False}
            how |= {"_node_ip_address": LOOPBACK}
        way = "start one with `ray start --head`, or leave data.ray.address out"
        try:
            with limited(f"Ray at data.ray.address={address}", way, _CONNECTING):
                library.init(address=address, **how)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"data.ray.address={address}: no Ray there ({first_line(error)}); {way}"
            ) from None
        try:
            yield library
        finally:
            library.shutdown()


def _check(ray: Any, task: Any, key: str) -> None:
    """Raises what the task raised, and JobFailedError where its process was lost every time."""
    try:
        ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise JobFailedError(
            f"{key}: a task was lost {_AGAIN + 1} times ({first_line(error)}); if memory ran out, "
            f"set data.ray.memory_gb to more"
        ) from None
