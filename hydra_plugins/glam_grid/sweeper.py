"""A sweeper that checks the whole grid before anything starts, and skips what is done."""

from dataclasses import dataclass

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser


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
        from glam.cli.grid import run_grid  # Hydra imports every plugin, also for a single run

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        loader = self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        # What an experiment sweeps, unless the same key is typed: then what is typed.
        typed = {o.get_key_element().lstrip("+") for o in parser.parse_overrides(arguments)}
        params = [p for p in self._parse_config() if p.split("=")[0] not in typed]
        overrides = parser.parse_overrides([*params, *arguments])
        [lines] = self.split_arguments(overrides, max_batch_size=None)
        swept = [o.get_key_element() for o in overrides if o.is_sweep_override()]
        run_grid(lines, swept, self.config, loader, self.launcher)
