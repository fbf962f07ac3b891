"""`hydra/sweeper=grid`: composes every cell of a grid once, and hands the cells to glam."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

if TYPE_CHECKING:
    from glam.composition.compose import Composer
    from glam.config import RunConfig
    from glam.studies.launchers import launcher
    from glam.studies.pool import Job
    from glam.studies.study import Cell


@dataclass
class GridSweeperConf:
    _target_: str = "hydra_plugins.glam_grid.sweeper.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="glam"
)


class GridSweeper(BasicSweeper):
    """Expands a command line as Hydra's own sweeper does; glam runs the cells."""

    def sweep(self, arguments: list[str]) -> None:
        # Hydra imports every plugin, also for a single run.
        from glam.composition.compose import Composer
        from glam.studies.grid import run_grid
        from glam.tasks.plan import show_plans

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        loader = self.hydra_context.config_loader
        lines, swept = expand(dict(self.params or {}), arguments, loader)
        composer = Composer(loader, self.config)
        run_grid(
            cells_of(composer, lines, swept), swept, _launcher(self.launcher), show_plans=show_plans
        )


def cells_of(
    composer: "Composer", lines: Sequence[Sequence[str]], swept: Sequence[str]
) -> "list[Cell]":
    """The cells of a grid, each composed: here and nowhere else."""
    from glam.studies.study import Cell

    return [
        Cell(
            values=composer.values(line, swept),
            config=composer.config(line),
            overrides=list(line),
        )
        for line in lines
    ]


def _launcher(configured: Launcher) -> "launcher.Launcher":
    """Ours as they are; any other of Hydra's launchers gets the cells' overrides to run."""
    ours = getattr(configured, "launcher", None)
    return cast("launcher.Launcher", ours()) if callable(ours) else _AnyOfHydra(configured)


class _AnyOfHydra:
    remote = False

    def __init__(self, configured: Launcher) -> None:
        self._configured = configured

    def check(self, jobs: "Sequence[Job]", config: "RunConfig") -> None: ...

    def run(self, jobs: "Sequence[Job]") -> None:
        lines = [job.cell["overrides"] for job in jobs if job.cell is not None]
        ended: Sequence[JobReturn] = self._configured.launch(lines, initial_job_idx=0)
        for job, one in zip(jobs, ended, strict=True):
            if one.status is JobStatus.FAILED:
                job.state, job.error = "failed", str(one._return_value)


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
