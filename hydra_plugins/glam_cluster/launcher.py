"""Launchers for machines that are elsewhere. The groups `hydra/launcher=submitit_slurm` and
`submitit_local` and their keys are those of hydra-submitit-launcher; what becomes of the jobs is
glam's, so that a study is the same wherever its cells run."""

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any, ClassVar

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

PACKAGE = "hydra_plugins.hydra_submitit_launcher"


class ClusterLauncher(Launcher):
    """Hands every cell to submitit. `parameters` are the keys of `hydra.launcher`."""

    cluster: ClassVar[str]

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

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from glam.cli.cluster import launch_on_cluster
        from glam.cli.compose import Composer

        composer = Composer(self.loader, self.config)
        return launch_on_cluster(job_overrides, composer, self.cluster, self.parameters)


class SlurmLauncher(ClusterLauncher):
    cluster = "slurm"


class LocalLauncher(ClusterLauncher):
    """For trying it out: every job at once, on this machine."""

    cluster = "local"


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
