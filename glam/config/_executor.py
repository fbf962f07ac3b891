"""Who prepares the text: processes of this machine, or jobs of a cluster (`data.executor`)."""

from dataclasses import dataclass, field
from typing import Any

from glam.config._checks import positive, within

EXECUTORS = ("local", "slurm", "ray")


@dataclass(kw_only=True)
class SlurmTasksConfig:
    """Of `data.executor=slurm`: what each task of a stage asks of the cluster. What is None is the
    cluster's default."""

    partition: str | None = None  # of the cluster
    time: str = "02:00:00"  # [h:m:s] that a task may take; one of 256 MB takes a minute or two
    qos: str | None = None  # quality of service
    account: str | None = None  # that is charged
    memory_gb: int = 4  # [GB] of a task
    workers: int = 256  # tasks at once
    array_size: int = 1000  # the most tasks that the cluster takes in one array
    # other options of sbatch, such as {constraint: skylake}
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        positive("data.slurm.", self, "memory_gb", "workers", "array_size")


@dataclass(kw_only=True)
class RayTasksConfig:
    """Of `data.executor=ray`: the cluster, and what each task of a stage asks of it."""

    address: str | None = None  # of a cluster that runs; null starts one on this machine
    memory_gb: float = 1.0  # [GB] that a task reserves

    def __post_init__(self) -> None:
        within("data.ray.", self, 0.1, 1e6, "memory_gb")
