"""Cells of a grid as jobs of submitit: an array on Slurm, or processes of this machine."""

import importlib
from collections.abc import Sequence
from typing import Any

from glam.config import ROOT, RunConfig, typed_path
from glam.errors import first_line
from glam.studies.launchers.job_handle import JobHandle
from glam.studies.launchers.remote import RemoteJob
from glam.studies.pool import Job, State

# Keys of every cluster; the others belong to one, and carry its name before them.
COMMON = (
    *("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name"),
    "stderr_to_stdout",
)
AT_START = ("submitit_folder", "max_num_timeout")


class SubmititLauncher:
    """`parameters` are the keys of `hydra.launcher`; `config` is of any cell."""

    def __init__(self, cluster: str, config: RunConfig, parameters: dict[str, Any]) -> None:
        self.cluster, self.config, self.parameters = cluster, config, parameters

    def check(self, jobs: Sequence[Job]) -> None:
        pass  # the command line has looked for Slurm's commands; what they refuse they say

    def submit(self, jobs: Sequence[Job]) -> Sequence[JobHandle]:
        handles: list[Any] = self._executor(jobs).map_array(RemoteJob(), jobs)
        return [_Handle(handle, self.cluster) for handle in handles]

    def leave(self, unfinished: Sequence[JobHandle]) -> str | None:
        handles = [one.handle for one in unfinished if isinstance(one, _Handle)]
        if self.cluster == "local":
            for handle in handles:
                handle.cancel()
            return None
        ids = dict.fromkeys(handle.job_id.split("_")[0] for handle in handles)
        return f"scancel {' '.join(ids)}"

    def close(self) -> None:
        pass

    def _executor(self, jobs: Sequence[Job]) -> Any:
        """Asks for what the cells need, where nothing is typed."""
        asked = {key: value for key, value in self.parameters.items() if value is not None}
        asked.setdefault("cpus_per_task", max(job.threads for job in jobs))
        if self.config.hardware.device == "gpu":
            asked.setdefault("gpus_per_node", self.config.hardware.devices)
        asked["name"] = asked.get("name") or self.config.study.name
        start = {f"{self.cluster}_{k}": v for k, v in asked.items() if k == "max_num_timeout"}
        submitit: Any = importlib.import_module("submitit")
        folder = ROOT / typed_path("hydra.launcher.submitit_folder", asked["submitit_folder"])
        executor = submitit.AutoExecutor(folder, cluster=self.cluster, **start)
        rest = {key: value for key, value in asked.items() if key not in AT_START}
        executor.update_parameters(
            **{
                key if key in COMMON else f"{self.cluster}_{key}": value
                for key, value in rest.items()
            }
        )
        return executor


class _Handle:
    def __init__(self, handle: Any, cluster: str) -> None:
        self.handle, self.cluster = handle, cluster

    def done(self) -> bool:
        return self.handle.done()

    def result(self) -> tuple[State, str | None]:
        return self.handle.result()

    def lost(self, error: Exception) -> str:
        state = str(self.handle.state).split(maxsplit=1)[0].lower()
        silent = "has not produced any output" in str(error)
        reason = "" if silent else f": {first_line(error)}"
        words = f"{self.cluster} job {self.handle.job_id} ended ({state}){reason}"
        return f"{words}; {self.handle.paths.stderr}"
