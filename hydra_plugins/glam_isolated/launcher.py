"""`hydra/launcher=isolated`, the default: glam's launcher of processes, under Hydra's name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from glam.studies.launchers import launcher


@dataclass
class IsolatedLauncherConf:
    _target_: str = "hydra_plugins.glam_isolated.launcher.HydraIsolated"


ConfigStore.instance().store(
    group="hydra/launcher", name="isolated", node=IsolatedLauncherConf, provider="glam"
)


class HydraIsolated(Launcher):
    """Hydra finds it and sets it up; glam's sweeper takes the launcher out of it."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None: ...

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        raise NotImplementedError("glam's grids need hydra/sweeper=grid")

    def launcher(self) -> "launcher.Launcher":
        from glam.studies.launchers.isolated import IsolatedLauncher

        return IsolatedLauncher()
