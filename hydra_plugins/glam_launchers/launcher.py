"""`hydra/launcher=…`: every launcher of `glam.config.launchers`, under its name, with its keys."""

from collections.abc import Sequence
from dataclasses import make_dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from glam.config.launchers import LAUNCHERS

if TYPE_CHECKING:
    from glam.studies.launchers import launcher


class HydraLauncher(Launcher):
    """Hydra finds it and sets it up; glam's sweeper takes the launcher out of it. `parameters` are
    the keys of `hydra.launcher`."""

    def __init__(self, **parameters: Any) -> None:
        self._parameters = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in parameters.items()
        }

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self._name = config.hydra.runtime.choices["hydra/launcher"]

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        raise NotImplementedError("glam's grids need hydra/sweeper=grid")

    def launcher(self) -> "launcher.Launcher":
        from glam.studies.launchers.build import build_launcher

        return build_launcher(LAUNCHERS[self._name](**self._parameters))


for name in LAUNCHERS:
    target = ("_target_", str, f"{__name__}.HydraLauncher")
    node = make_dataclass("HydraLauncherConf", [target], bases=(LAUNCHERS[name],), kw_only=True)
    schema = OmegaConf.structured(node)
    if "additional_parameters" in schema:  # whose names are another program's
        OmegaConf.set_struct(schema.additional_parameters, False)
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=schema, provider="glam")
