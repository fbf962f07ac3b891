"""Launchers for machines that are elsewhere: `hydra/launcher=ray`, `submitit_slurm` and
`submitit_local`, whose keys are those of hydra-submitit-launcher. What becomes of the jobs is
glam's, so that a study is the same wherever its cells run."""

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from glam.config import RunConfig
    from glam.studies.launchers.job_handle import Executor

PACKAGE = "hydra_plugins.hydra_submitit_launcher"


class ClusterLauncher(Launcher):
    """Hands every cell over. `parameters` are the keys of `hydra.launcher`."""

    def __init__(self, **parameters: Any) -> None:
        self.parameters = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in parameters.items()
        }

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.loader = hydra_context.config_loader
        self.config = config

    def check(self, job_overrides: Sequence[Sequence[str]]) -> None:
        """Before anything is made: raises UserError where the jobs cannot be taken."""
        from glam.composition.compose import Composer
        from glam.studies.launchers.remote_grid import RemoteGrid

        composer = Composer(self.loader, self.config)
        self.remote = RemoteGrid(job_overrides, composer, self.executor)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        return self.remote.launch()

    def executor(self, config: "RunConfig") -> "Executor":
        """`config` is of any cell."""
        raise NotImplementedError


class SubmititLauncher(ClusterLauncher):
    cluster: ClassVar[str]

    def executor(self, config: "RunConfig") -> "Executor":
        from glam.studies.launchers.submitit import SubmititLauncher

        return SubmititLauncher(self.cluster, config, self.parameters)


class SlurmLauncher(SubmititLauncher):
    cluster = "slurm"


class LocalLauncher(SubmititLauncher):
    """For trying it out: every job at once, on this machine."""

    cluster = "local"


class RayLauncher(ClusterLauncher):
    def executor(self, config: "RunConfig") -> "Executor":
        from glam.studies.launchers.ray import RayLauncher

        return RayLauncher(config, self.parameters)


@dataclass
class RayLauncherConf:
    """What a cell asks for where nothing is typed is what it was counted to need."""

    _target_: str = f"{__name__}.RayLauncher"
    address: str | None = None  # of a cluster that runs; none: RAY_ADDRESS, or one of our own
    cpus_per_task: float | None = None
    gpus_per_task: float | None = None
    mem_gb: float | None = None
    max_retries: int = -1  # of a task whose process or machine was lost; -1: as often as it takes


ConfigStore.instance().store(
    group="hydra/launcher", name="ray", node=RayLauncherConf, provider="glam"
)


class ClusterKeys(SearchPathPlugin):
    """Puts ours in the place of that package's launchers: Hydra calls this when every plugin has
    registered its own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if importlib.util.find_spec(PACKAGE) is None:
            return
        keys = importlib.import_module(f"{PACKAGE}.config")
        ours = {
            "name": "",  # that of the study
            "submitit_folder": "${runs_dir}/.submitit/%j",
        }
        # A job whose time is up goes on from its checkpoint, as often as it takes.
        slurm = keys.SlurmQueueConf(
            _target_=f"{__name__}.SlurmLauncher", max_num_timeout=1000, **ours
        )
        local = keys.LocalQueueConf(_target_=f"{__name__}.LocalLauncher", **ours)
        for name, node in {"submitit_slurm": slurm, "submitit_local": local}.items():
            ConfigStore.instance().store(
                group="hydra/launcher", name=name, node=node, provider="glam"
            )
