"""Launchers of other machines: `hydra/launcher=ray`, `submitit_slurm` and `submitit_local`. glam
follows their jobs, so that a study is the same wherever its cells run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from glam.config import RunConfig
    from glam.studies.launchers import launcher
    from glam.studies.launchers.job_handle import Executor


class ClusterLauncher(Launcher):
    """Hydra finds it and sets it up; glam's sweeper takes the launcher out of it. `parameters` are
    the keys of `hydra.launcher`."""

    def __init__(self, **parameters: Any) -> None:
        self.parameters = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in parameters.items()
        }

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None: ...

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        raise NotImplementedError("glam's grids need hydra/sweeper=grid")

    def launcher(self) -> "launcher.Launcher":
        from glam.studies.launchers.remote_grid import RemoteGrid

        return RemoteGrid(self.executor)

    def executor(self, config: "RunConfig") -> "Executor":
        """`config` is of any cell."""
        raise NotImplementedError


class SubmititLauncher(ClusterLauncher):
    cluster: ClassVar[str]

    def executor(self, config: "RunConfig") -> "Executor":
        from glam.studies.launchers import submitit

        return submitit.SubmititLauncher(self.cluster, config, self.parameters)


class SlurmLauncher(SubmititLauncher):
    cluster = "slurm"


class LocalLauncher(SubmititLauncher):
    """For trying it out: every job at once, on this machine."""

    cluster = "local"


class RayLauncher(ClusterLauncher):
    def executor(self, config: "RunConfig") -> "Executor":
        from glam.studies.launchers import ray

        return ray.RayLauncher(config, self.parameters)


@dataclass
class SubmititConf:
    """Keys of both submitit launchers, under the names that hydra-submitit-launcher gave them.
    What is None is what a cell was counted to need."""

    submitit_folder: str = "${runs_dir}/.submitit/%j"
    timeout_min: int = 60  # minutes a job may take
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    tasks_per_node: int = 1
    mem_gb: int | None = None  # memory of a node
    nodes: int = 1
    name: str = ""  # of the jobs; empty: the study's
    stderr_to_stdout: bool = False


@dataclass
class SlurmConf(SubmititConf):
    """Keys of Slurm's sbatch, and of submitit for Slurm."""

    _target_: str = f"{__name__}.SlurmLauncher"
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
    signal_delay_s: int = 120  # seconds before its end that a job is told to save itself
    max_num_timeout: int = 1000  # a job whose time is up is queued again, up to so often
    additional_parameters: dict[str, Any] = field(default_factory=dict)  # of sbatch
    array_parallelism: int = 256  # jobs at once
    setup: list[str] | None = None  # commands before srun


@dataclass
class LocalConf(SubmititConf):
    _target_: str = f"{__name__}.LocalLauncher"


@dataclass
class RayConf:
    """What is None is what a cell was counted to need."""

    _target_: str = f"{__name__}.RayLauncher"
    address: str | None = None  # of a running cluster; None: RAY_ADDRESS, or a local Ray
    cpus_per_task: float | None = None
    gpus_per_task: float | None = None
    mem_gb: float | None = None
    max_retries: int = -1  # of a task whose process or machine was lost; -1: without a limit


for name, node in {
    "submitit_slurm": SlurmConf,
    "submitit_local": LocalConf,
    "ray": RayConf,
}.items():
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=node, provider="glam")
