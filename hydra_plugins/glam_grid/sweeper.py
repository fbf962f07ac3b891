"""A sweeper that checks the whole grid before anything starts, and skips what is done."""

from dataclasses import dataclass

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override


@dataclass
class GridSweeperConf:
    _target_: str = "hydra_plugins.glam_grid.sweeper.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="glam"
)


class GridSweeper(BasicSweeper):
    """Expands a line as Hydra's own sweeper does; what becomes of the cells is glam's."""

    def sweep(self, arguments: list[str]) -> None:
        from glam.composition.compose import Composer
        from glam.studies.grid import run_grid  # Hydra imports every plugin, also for a single run
        from glam.tasks.plan import show_plans

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        loader = self.hydra_context.config_loader
        lines, swept = expand(dict(self.params or {}), arguments, loader)
        composer = Composer(loader, self.config)
        chosen = str(self.config.hydra.runtime.choices["hydra/launcher"])
        remote = chosen.startswith(("submitit", "ray"))  # machines this one knows nothing of
        run_grid(lines, swept, composer, self.launcher, show_plans=show_plans, remote=remote)


def expand(
    params: dict[str, str], arguments: list[str], loader: ConfigLoader
) -> tuple[list[list[str]], list[str]]:
    """The overrides of every cell, and the swept keys: what an experiment sweeps (`params`), with
    what is typed in the place of the same key. A key that is narrowed to one value stays swept: its
    cells belong beside the others."""
    parser = OverridesParser.create(config_loader=loader)
    typed = parser.parse_overrides(arguments)
    replaced = {name_of(override) for override in typed}
    kept = [f"{key}={value}" for key, value in params.items() if key not in replaced]
    overrides = [*parser.parse_overrides(kept), *typed]
    [lines] = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    keys = {name_of(o): o.is_sweep_override() for o in overrides}
    swept = [key for key, is_swept in keys.items() if is_swept or key in params]
    return [list(line) for line in lines], swept


def name_of(override: Override) -> str:
    """The key without the plus that adds it."""
    return override.get_key_element().lstrip("+")
