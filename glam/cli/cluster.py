"""What the cluster's launchers do: cells to submitit, and their fate to Hydra."""

import importlib
import signal
import time
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn

from glam.cli.compose import Composer
from glam.cli.launch import job_of, returned
from glam.config import ROOT, RunConfig
from glam.errors import first_line
from glam.studies.pool import Job
from glam.studies.remote import Remotely
from glam.studies.table import LiveTable

# Keys of every cluster; the others belong to one, and carry its name before them.
COMMON = (
    *("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name"),
    "stderr_to_stdout",
)
AT_START = ("submitit_folder", "max_num_timeout")


def launch_on_cluster(
    job_overrides: Sequence[Sequence[str]],
    composer: Composer,
    cluster: str,
    parameters: dict[str, Any],
) -> list[JobReturn]:
    """Submit every job, and follow them to their end; a job that fails stops no other. Ctrl-C
    ends the jobs of this machine, and leaves those of a cluster to it."""
    jobs = [job_of(list(overrides), composer, elsewhere=True) for overrides in job_overrides]
    executor = _executor(cluster, composer.config(job_overrides[0]), parameters, jobs)
    submitted: list[Any] = executor.map_array(Remotely(), jobs)
    following = list(zip(jobs, submitted, strict=True))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        with LiveTable(jobs) as table:
            while any(job.state in ("waiting", "running") for job in jobs):
                for job, handle in following:
                    _follow(job, handle, cluster)
                table.update()
                time.sleep(0.5)
    except KeyboardInterrupt:
        raise _left(following, cluster) from None
    return [returned(job) for job in jobs]


def _executor(
    cluster: str, config: RunConfig, parameters: dict[str, Any], jobs: Sequence[Job]
) -> Any:
    """Asks for what the cells need, where nothing is typed."""
    asked = {key: value for key, value in parameters.items() if value is not None}
    asked.setdefault("cpus_per_task", max(job.threads for job in jobs))
    if config.hardware.device == "gpu":
        asked.setdefault("gpus_per_node", config.hardware.devices)
    asked["name"] = asked.get("name") or config.study.name
    start = {f"{cluster}_{k}": v for k, v in asked.items() if k == "max_num_timeout"}
    submitit: Any = importlib.import_module("submitit")
    folder = ROOT / asked["submitit_folder"]
    executor = submitit.AutoExecutor(folder, cluster=cluster, **start)
    rest = {key: value for key, value in asked.items() if key not in AT_START}
    executor.update_parameters(
        **{key if key in COMMON else f"{cluster}_{key}": value for key, value in rest.items()}
    )
    return executor


def _follow(job: Job, handle: Any, cluster: str) -> None:
    """Read what has become of the job: of its figures while it runs, and of its end."""
    if job.state not in ("waiting", "running"):
        return
    if not handle.done():
        job.read_progress()
        if job.state == "waiting" and job.progress:
            job.state, job.began = "running", time.monotonic()
        job.seconds = time.monotonic() - job.began if job.began else 0.0
        return
    try:
        job.state, job.error = handle.result()
    except Exception as lost:  # whatever submitit says of a job that left nothing
        job.state, job.error = "failed", _lost(handle, cluster, lost)
        if job.run.path.is_dir() and not job.take_result():
            job.run.write_failure(job.error)
    job.take_result()


def _lost(handle: Any, cluster: str, error: Exception) -> str:
    state = str(handle.state).split(maxsplit=1)[0].lower()
    reason = "" if "has not produced any output" in str(error) else f": {first_line(error)}"
    return f"{cluster} job {handle.job_id} ended ({state}){reason}; {handle.paths.stderr}"


def _left(following: Sequence[tuple[Job, Any]], cluster: str) -> KeyboardInterrupt:
    """After Ctrl-C."""
    left = [(job, handle) for job, handle in following if job.state in ("waiting", "running")]
    number = f"{len(left)} of {len(following)} jobs"
    if cluster == "local":
        for job, handle in left:
            handle.cancel()
            job.state = "stopped"
        return KeyboardInterrupt(f"stopped with {number} unfinished; the same line again goes on")
    ids = " ".join(dict.fromkeys(handle.job_id.split("_")[0] for _, handle in left))
    return KeyboardInterrupt(
        f"{number} go on without this line (scancel {ids} ends them); the same line again, when "
        f"they are done, runs what is missing and writes the study"
    )
