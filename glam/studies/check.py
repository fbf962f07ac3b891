"""The cells of a grid checked before one starts: each fits, has its text, and no two are the same
run."""

from collections.abc import Sequence
from dataclasses import replace

from glam.config import DataConfig, RunConfig
from glam.data.prepare import check_cache
from glam.data.sources import checked_sources
from glam.errors import UserError
from glam.log import log
from glam.machine.resources import resolve
from glam.planning.preflight import check_fits
from glam.runs.folder import RunFolder
from glam.studies.budget import check_comparison
from glam.studies.comparable import check_evaluations, check_texts
from glam.studies.study import Cell, Study, TrainingCell
from glam.studies.time_budget import check_budget, time_to_token_budget
from glam.units import counted


def checked_study(cells: Sequence[Cell], swept: Sequence[str], *, remote: bool = False) -> Study:
    """The study of these cells. Threads and precision are part of a run's identity and chosen by
    the machine: a study that was started on another machine keeps that one's.

    `remote`: other machines will train the cells. Raises UserError if one cell is refused."""
    study = Study.of(checked_cells(cells, remote=remote), swept)
    study = _with_token_budgets(_as_started(study, cells, remote), remote)
    check_evaluations(study)
    check_texts(study)
    return study


def checked_cells(cells: Sequence[Cell], *, remote: bool = False) -> list[TrainingCell]:
    """The cells with their resources and run folders; those that are the same run once."""
    found: dict[str, TrainingCell] = {}
    texts: list[DataConfig] = []  # that are there
    for one in _with_equal_threads(cells, remote):
        if one.config.task.name != "train":
            raise UserError(f"task={one.config.task.name}: a grid trains; leave out -m")
        cell = TrainingCell.of(one, resolve(one.config, one_of_many=True, remote=remote))
        if not cell.is_done:
            check_fits(cell.config, cell.resources, cell.overrides)
            if cell.config.data not in texts:
                _check_text(cell.config)
                texts.append(cell.config.data)
        found.setdefault(cell.run.id, cell)
    if len(found) < len(cells):
        same = counted(len(cells) - len(found), "cell")
        log.info(f"{same} of the grid repeat the run of another; each run is trained once")
    check_comparison(list(found.values()))
    return list(found.values())


def _with_equal_threads(cells: Sequence[Cell], remote: bool) -> list[Cell]:
    """Results are bit-equal for equal thread counts only, so every cell gets the same."""
    counts = {resolve(cell.config, one_of_many=True, remote=remote).threads for cell in cells}
    if len(counts) == 1:
        return list(cells)
    return [cell.with_hardware(threads=max(counts)) for cell in cells]


def _check_text(config: RunConfig) -> None:
    try:
        checked_sources(config.data)
    except UserError as error:
        if config.study.text_by is None:
            raise
        raise UserError(f"{error}; {config.study.text_by} writes it") from None


def check_caches(configs: Sequence[RunConfig]) -> None:
    """Raises UserError where a run has to write to its cache and cannot."""
    texts: list[object] = []
    for config in configs:
        if (text := (config.data, config.model.vocab_size)) not in texts:
            check_cache(*text, config.cache_path)
            texts.append(text)


def _as_started(study: Study, cells: Sequence[Cell], remote: bool) -> Study:
    hardware, here = cells[0].config.hardware, study.cells[0].resources
    begun = study.begun_with()
    if begun is None or begun["device"] != here.device:
        return study
    is_open = {"threads": hardware.threads is None, "precision": hardware.precision == "auto"}
    chosen = {
        key: begun[key]
        for key, left_open in is_open.items()
        if left_open and begun[key] != getattr(here, key)
    }
    if not chosen:
        return study
    words = " ".join(f"hardware.{key}={value}" for key, value in chosen.items())
    log.info(f"{study.name}: continues with {words}, as it was started")
    same = [cell.with_hardware(**chosen) for cell in cells]
    return Study.of(checked_cells(same, remote=remote), study.swept)


def _with_token_budgets(study: Study, remote: bool) -> Study:
    """Each budget of seconds as tokens. Throughputs that the study has measured before are used
    again, so that the same command is the same study."""
    for cell in study.cells:
        check_budget(cell.config, cell.overrides)
    timed = [cell for cell in study.cells if cell.config.training.seconds is not None]
    if not timed:
        return study
    if remote:
        raise UserError(
            f"training.seconds={timed[0].config.training.seconds:g} is timed on this machine, and "
            f"the launcher's are others; set training.tokens"
        )
    throughputs: dict[str, float] = study.known_throughputs()
    cells: dict[str, TrainingCell] = {}
    for cell in study.cells:
        config, overrides, measured = time_to_token_budget(
            cell.config, cell.resources, cell.overrides, throughputs
        )
        throughputs |= measured
        run = RunFolder.of(config, cell.resources)
        seconds = cell.config.training.seconds
        cells[run.id] = replace(cell, config=config, overrides=overrides, run=run, seconds=seconds)
        for rate in measured.values():
            log.info(f"{cell.name}: {config.training.tokens:,} tokens, at {rate:,.0f} a second")
    found = Study(study.name, list(cells.values()), study.swept)
    found.throughputs = throughputs
    return found
