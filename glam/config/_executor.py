"""Who prepares the text: processes of this machine, or jobs of a cluster (`data.executor`)."""

import re
from dataclasses import dataclass, field
from typing import Any

from glam.config._checks import positive, within
from glam.errors import UserError

EXECUTORS = ("local", "slurm", "ray")
_TIME = re.compile(r"(\d+-)?\d+(:\d\d?){0,2}")  # as sbatch takes it: days, hours, minutes, seconds


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
    # other options of sbatch, such as {constraint: skylake}; one without a value has ""
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        positive("data.slurm.", self, "memory_gb", "workers", "array_size")
        if not _TIME.fullmatch(self.time):
            raise UserError(
                f"data.slurm.time={self.time!r} is no time of Slurm; give hours:minutes:seconds, "
                f"as data.slurm.time=02:00:00"
            )
        for name, value in self.options.items():
            if not isinstance(value, str | int | float) or not str(value).isprintable():
                raise UserError(
                    f"data.slurm.options.{name}={value!r} is no value of an option of sbatch; give "
                    f"words or a number, as 'data.slurm.options={{constraint:skylake}}'"
                )


@dataclass(kw_only=True)
class RayTasksConfig:
    """Of `data.executor=ray`: the cluster, and what each task of a stage asks of it."""

    address: str | None = None  # of a cluster that runs; null starts one on this machine
    memory_gb: float = 1.0  # [GB] that a task reserves

    def __post_init__(self) -> None:
        within("data.ray.", self, 0.1, 1e6, "memory_gb")
