"""The default launcher: every job a process of its own, as many at once as the machine carries."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class IsolatedLauncherConf:
    _target_: str = "hydra_plugins.glam_isolated.launcher.IsolatedLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="isolated", node=IsolatedLauncherConf, provider="glam"
)


class IsolatedLauncher(Launcher):
    """Memory-aware and local; a job killed takes no other with it."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.loader = hydra_context.config_loader
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from glam.composition.compose import Composer
        from glam.studies.launchers.isolated import launch_isolated

        return launch_isolated(job_overrides, Composer(self.loader, self.config))
