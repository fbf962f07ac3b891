"""Cells of a grid as tasks of Ray: on a running cluster, or on a local one for the grid alone."""

import importlib
import os
import socket
from collections.abc import Sequence
from typing import Any

from glam.config import RunConfig
from glam.errors import UserError, first_line
from glam.machine.processes import LOOPBACK
from glam.machine.resources import num_cores
from glam.machine.waiting import limited
from glam.studies.launchers.job_handle import JobHandle
from glam.studies.launchers.remote import RemoteJob
from glam.studies.pool import PATIENCE, Job, State
from glam.units import byte_size

OBJECTS = 80 * 2**20  # bytes of shared memory, the fewest that Ray takes: our tasks pass words
CONNECTING = 60.0  # seconds; a Ray of this machine's own starts in ten


class RayLauncher:
    """`parameters` are the keys of `hydra.launcher`; `config` is of any cell. Ray starts a task
    where there are the cores, the memory and the GPUs that its cell needs, and starts it anew
    where its process or its machine was lost: the run goes on from its checkpoint."""

    def __init__(self, config: RunConfig, parameters: dict[str, Any]) -> None:
        self.config, self.parameters = config, parameters
        # Read by Ray when it is imported, and by what it starts. The first sends no statistics;
        # the second leaves a device visible that a task did not ask for, and saves a warning.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # A job whose worker is killed is told so by its pipe, and saves itself: Ray is not to
        # kill it at once.
        os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "0")
        self.ray: Any = importlib.import_module("ray")

    def check(self, jobs: Sequence[Job]) -> None:
        """Connects."""
        self._connect()
        for job in jobs:
            self._check(job, self._needs(job))

    def submit(self, jobs: Sequence[Job]) -> Sequence[JobHandle]:
        return [_Task(self.ray, self._start(job)) for job in jobs]

    def leave(self, unfinished: Sequence[JobHandle]) -> str | None:
        """Tasks end with the process that asked for them; they get the time to save themselves."""
        tasks = [one.reference for one in unfinished if isinstance(one, _Task)]
        for task in tasks:
            self.ray.cancel(task)
        self.ray.wait(tasks, num_returns=len(tasks), timeout=PATIENCE + 4)
        self.close()
        return None

    def close(self) -> None:
        self.ray.shutdown()

    def _connect(self) -> None:
        typed, environment = self.parameters["address"], os.environ.get("RAY_ADDRESS")
        address = typed or environment or "local"
        how: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address == "local":
            how |= {"num_cpus": num_cores(), "object_store_memory": OBJECTS}
            how |= {"include_dashboard": False, "_node_ip_address": LOOPBACK}
        key = "hydra.launcher.address" if typed or not environment else "RAY_ADDRESS"
        way = (
            "start one with `ray start --head`, or set neither hydra.launcher.address nor "
            "RAY_ADDRESS for one of this machine's own"
        )
        try:
            _reach(address)
            with limited(f"Ray at {key}={address}", way, CONNECTING):
                self.ray.init(address=address, **how)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{key}={address}: no Ray there ({first_line(error)}); {way}") from None

    def _needs(self, job: Job) -> dict[str, float]:
        typed = {key: value for key, value in self.parameters.items() if value is not None}
        needs: dict[str, float] = {"num_cpus": job.threads, "memory": job.memory_bytes}
        if self.config.hardware.device == "gpu":
            needs["num_gpus"] = self.config.hardware.devices
        for key, name in {"cpus_per_task": "num_cpus", "gpus_per_task": "num_gpus"}.items():
            if key in typed:
                needs[name] = typed[key]
        if "mem_gb" in typed:
            needs["memory"] = int(typed["mem_gb"] * 1e9)
        return needs

    def _check(self, job: Job, needs: dict[str, float]) -> None:
        """Ray would wait for a machine that large, for ever where none is coming."""
        resources = {"num_cpus": "CPU", "memory": "memory", "num_gpus": "GPU"}
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if any(all(n.get(resources[k], 0) >= v for k, v in needs.items()) for n in nodes):
            return
        self.close()
        asked = f"{needs['num_cpus']:g} CPUs, {byte_size(needs['memory'])}"
        asked += f", {needs['num_gpus']:g} GPUs" if "num_gpus" in needs else ""
        raise UserError(
            f"{job.name} asks for {asked}, which no machine of this Ray has; set "
            f"hydra.launcher.cpus_per_task, mem_gb or gpus_per_task, or join a larger one"
        )

    def _start(self, job: Job) -> Any:
        # A process for each task: a run's memory ends with it.
        remote = self.ray.remote(max_calls=1)(_run)
        retries = self.parameters["max_retries"]
        options = remote.options(name=job.name, max_retries=retries, **self._needs(job))
        return options.remote(job)


def _reach(address: str) -> None:
    """Ray tries for minutes, and says much meanwhile."""
    if "://" in address:
        raise ValueError("Ray's client is not used here; name the head as host:port")
    host, colon, port = address.rpartition(":")
    if colon:
        if not port.isdecimal() or not 0 < int(port) < 2**16:
            raise ValueError(f"{port!r} is no port")
        socket.create_connection((host, int(port)), timeout=10).close()


def _run(job: Job) -> tuple[State, str | None]:
    return RemoteJob()(job)


class _Task:
    def __init__(self, ray: Any, reference: Any) -> None:
        self.ray, self.reference = ray, reference

    def done(self) -> bool:
        ended, _ = self.ray.wait([self.reference], timeout=0)
        return bool(ended)

    def result(self) -> tuple[State, str | None]:
        return self.ray.get(self.reference)

    def lost(self, error: Exception) -> str:
        return f"ray's task was lost: {first_line(error)}"
