"""Jobs of submitit: of Slurm, or of this machine. The keys have the names that
hydra-submitit-launcher gave them."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from glam.config.launchers.base import LAUNCHERS, LauncherConfig


@dataclass(kw_only=True)
class SubmititConfig(LauncherConfig):
    """Keys of both. What is None is what a run was counted to need."""

    cluster: ClassVar[str]  # as submitit calls it
    package: ClassVar[str | None] = "submitit"
    extra: ClassVar[str | None] = "slurm"

    submitit_folder: str = "${runs_dir}/.submitit/%j"  # of a job's own files
    timeout_min: int = 60  # [min] that a job may take
    cpus_per_task: int | None = None  # [cores] of a run
    gpus_per_node: int | None = None  # [GPUs] of a run
    tasks_per_node: int = 1
    mem_gb: int | None = None  # [GB] of memory of a node
    nodes: int = 1
    name: str = ""  # of the jobs; empty: the study's
    stderr_to_stdout: bool = False


@LAUNCHERS.register
@dataclass(kw_only=True)
class SlurmConfig(SubmititConfig):
    """Every run a job of Slurm, in one array."""

    launcher: ClassVar[str] = "submitit_slurm"
    cluster: ClassVar[str] = "slurm"
    program: ClassVar[str | None] = "srun"

    partition: str | None = None
    qos: str | None = None
    comment: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gres: str | None = None
    cpus_per_gpu: int | None = None
    gpus_per_task: int | None = None
    mem_per_gpu: str | None = None
    mem_per_cpu: str | None = None
    account: str | None = None
    signal_delay_s: int = 120  # [s] before its end that a job is told to save itself
    max_num_timeout: int = 1000  # a job whose time is up is queued again, up to so often
    additional_parameters: dict[str, Any] = field(default_factory=dict[str, Any])  # of sbatch
    array_parallelism: int = 256  # [jobs] at once
    setup: list[str] | None = None  # commands before srun


@LAUNCHERS.register
@dataclass(kw_only=True)
class LocalConfig(SubmititConfig):
    """Every run a process of this machine, all at once: to try the launcher out."""

    launcher: ClassVar[str] = "submitit_local"
    cluster: ClassVar[str] = "local"
