"""A study's grid, composed here as `python run.py -m` composes it: its cells and their runs."""

import functools
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from glam.composition.compose import Composer
from glam.composition.overrides import CONF, check_line
from glam.composition.schema import register
from glam.machine.resources import resolve
from glam.planning.throughput import calibrated, workload_key
from glam.runs.folder import RunFolder
from glam.runs.identity import run_id
from glam.studies.study import Cell, Study, TrainingCell
from glam.studies.time_budget import time_to_token_budget
from hydra_plugins.glam_grid.sweeper import cells_of, expand

Row = dict[str, str]


def words_of(grid: str, runs_dir: str) -> list[str]:
    """What is typed behind `python run.py -m`."""
    words = shlex.split(grid)
    places = [] if any(word.startswith("runs_dir=") for word in words) else [f"runs_dir={runs_dir}"]
    return [*words, "logger=csv", *places]


def composed(words: Sequence[str]) -> Study:
    """The grid's study. A cell whose budget is seconds has tokens where this machine's throughput
    is known, by the study's own runs or by a calibration; until then its run is unknown. Raises
    UserError for words that make no grid."""
    cells, swept = _cells(tuple(words))
    found = [TrainingCell.of(one, resolve(one.config, one_of_many=True)) for one in cells]
    study = Study.of(found, swept)
    if any(cell.config.training.seconds for cell in found):
        known = study.known_throughputs()
        study.cells = [_in_tokens(cell, known) for cell in found]
    by_run = {cell.run.id if is_known(cell) else cell.name: cell for cell in study.cells}
    study.cells = list(by_run.values())
    return study


@functools.cache
def _cells(words: tuple[str, ...]) -> tuple[list[Cell], list[str]]:
    check_line(["-m", *words])
    loader, params, composer = _composer(*(w for w in words if w.startswith("experiment=")))
    lines, swept = expand(params, list(words), loader)
    return cells_of(composer, lines, swept), swept


@functools.cache  # Hydra takes a tenth of a second for each choice of groups
def _composer(*experiment: str) -> tuple[ConfigLoader, dict[str, str], Composer]:
    """With what the experiment sweeps."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        loader = hydra.config_loader
        master = cast(
            DictConfig, loader.load_configuration("config", [*experiment], RunMode.MULTIRUN)
        )
        return loader, dict(master.hydra.sweeper.params or {}), Composer(loader, master)


def _in_tokens(cell: TrainingCell, known: dict[str, float]) -> TrainingCell:
    config, resources, seconds = cell.config, cell.resources, cell.config.training.seconds
    if workload_key(config, resources) not in known and calibrated(config, resources) is None:
        return cell
    config, overrides, _ = time_to_token_budget(config, resources, cell.overrides, known)
    run = RunFolder.of(config, resources)
    return replace(cell, config=config, overrides=overrides, run=run, seconds=seconds)


def seconds_of(cell: TrainingCell) -> float | None:
    """Of training, where they are the cell's budget."""
    return cell.seconds or cell.config.training.seconds


def is_known(cell: TrainingCell) -> bool:
    """Whether its run is: a budget of seconds has its tokens."""
    return cell.config.training.seconds is None


def protocol(cells: Sequence[TrainingCell]) -> str:
    """16 hexadecimal digits of what determines the runs of the cells; a budget of seconds is one,
    whatever tokens it is here."""
    ids = sorted(_id_of(cell, str(int(1e6 * (seconds_of(cell) or 0)))) for cell in cells)
    return hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]


def _id_of(cell: TrainingCell, tokens: str) -> str:
    return cell.run.id if seconds_of(cell) is None else _id_with(cell, tokens) or ""


def row_of(cell: TrainingCell, rows: Sequence[Row]) -> Row | None:
    """The row of the cell's run. A budget of seconds is other tokens on another machine: the row
    has them, and with them the cell is the run of the row's id."""
    if seconds_of(cell) is None:
        return next((row for row in rows if row["id"] == cell.run.id), None)
    alike = [row for row in rows if all(row.get(k) == str(v) for k, v in cell.values.items())]
    return next((row for row in alike if row["id"] == _id_with(cell, row.get("tokens", ""))), None)


def _id_with(cell: TrainingCell, tokens: str) -> str | None:
    if not tokens.isdecimal():
        return None
    training = replace(cell.config.training, tokens=int(tokens), seconds=None)
    return run_id(replace(cell.config, training=training), cell.resources)
