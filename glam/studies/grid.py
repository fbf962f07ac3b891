"""A grid: its cells checked, the finished ones skipped, the rest launched, the study written."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from glam.config import RunConfig
from glam.errors import JobFailedError, UserError
from glam.log import log
from glam.machine.parent_watch import watch_parent
from glam.machine.resources import resolve
from glam.progress import end_start
from glam.reporting import run_report, write_study
from glam.runs.folder import check_writable
from glam.studies.budget import check_comparison
from glam.studies.check import check_caches, checked_study
from glam.studies.comparable import warn_of_unlike_runs
from glam.studies.jobs import job_of
from glam.studies.launchers.launcher import Launcher
from glam.studies.study import Cell, Study, TrainingCell
from glam.studies.time_budget import check_budget, time_budget_warning, time_to_token_budget
from glam.tracking.study import track_study
from glam.units import counted


class ShowPlans(Protocol):
    """Prints what runs need and cost, without running them."""

    def __call__(self, configs: Sequence[RunConfig], name: str, *, several: bool) -> None: ...


def run_grid(
    cells: Sequence[Cell], swept: Sequence[str], launcher: Launcher, *, show_plans: ShowPlans
) -> None:
    """Train every cell that is not done, by `launcher`; for `task=plan`, plan them. Raises
    UserError before anything is made if one cell is refused, and JobFailedError at the end if a
    job failed."""
    watch_parent()  # of a command that runs one grid after the other
    end_start()
    if not cells:
        raise UserError("the grid is empty: a swept key has no value; give it at least one")
    if not swept:
        log.info("no key has several values: a grid of one run, with a page of its own")
    if cells[0].config.task.name == "plan":
        _plan(cells, swept, show_plans)
        return
    study = checked_study(cells, swept, remote=launcher.remote)
    pending = [cell for cell in study.cells if cell.config.rerun or not cell.is_done]
    if done := len(study.cells) - len(pending):
        log.info(f"{study.name}: {done} of {counted(len(study.cells), 'cell')} are done already")
    is_written = _launch(study, pending, launcher)
    _warn_of_time_budgets(pending)
    if pending and is_written:
        track_study(study.cells[0].config.logger, study.folder)
    if failed := study.failures():
        raise JobFailedError(
            f"{len(failed)} of {counted(len(study.cells), 'job')} failed: {'; '.join(failed)}; "
            f"the same command runs only what is missing"
        )
    if not is_written:
        raise JobFailedError("the runs are done; the same command writes their study")


def _launch(study: Study, pending: Sequence[TrainingCell], launcher: Launcher) -> bool:
    """Whether the study's page could be written."""
    cells = [cell.within(study.name) for cell in pending]
    check_caches([cell.config for cell in cells])
    jobs = [job_of(cell, remote=launcher.remote) for cell in cells]
    if cells:
        launcher.check(jobs, cells[0].config)
    _record(study)
    try:
        if pending:
            launcher.run(jobs)
    finally:
        # Also after Ctrl-C: the table has what is done so far.
        is_written = _write(study)
    return is_written


def _warn_of_time_budgets(cells: Sequence[TrainingCell]) -> None:
    for cell in cells:
        if cell.seconds and (line := time_budget_warning(cell.seconds, cell.run.summary())):
            log.warning(f"{cell.name}: {line}")


def _record(study: Study) -> None:
    check_writable(study.cells[0].config)
    try:
        study.record()
    except OSError as error:
        raise UserError(
            f"{study.folder.path} cannot be written ({error.strerror}); free some space, or name "
            f"another folder with runs_dir=..."
        ) from None


def _write(study: Study) -> bool:
    """Whether the page could be written: the runs' results are kept without it."""
    try:
        for cell in study.cells:  # a run that was killed between its summary and its report
            if cell.is_done and not cell.run.report_file.exists():
                run_report(cell.run.path)
        log.info(f"study: {write_study(study.folder)}")
        warn_of_unlike_runs(study.folder)
    except OSError as error:
        log.warning(f"{study.folder.path} cannot be written ({error.strerror})")
        return False
    return True


def _one_of_many(config: RunConfig) -> RunConfig:
    """With the threads of a run that others train beside."""
    if config.hardware.is_described or config.hardware.threads is not None:
        return config
    threads = resolve(config, one_of_many=True).threads
    return replace(config, hardware=replace(config.hardware, threads=threads))


def _plan(cells: Sequence[Cell], swept: Sequence[str], show_plans: ShowPlans) -> None:
    """One table of all distinct cells, in this process; no run folders."""
    cells = list({tuple(cell.overrides): cell for cell in cells}.values())
    check_comparison(cells)
    for cell in cells:
        check_budget(cell.config, cell.overrides)  # all, before the first is timed
    configs: list[RunConfig] = []
    for cell in cells:
        config = _one_of_many(cell.config)
        if config.training.seconds is not None:
            config = time_to_token_budget(config, resolve(config), cell.overrides).config
        # A model's name is enough where nothing else is swept.
        name = None if set(cell.values) == {"model"} else cell.name
        configs.append(replace(config, study=replace(config.study, cell=name)))
    keys = "+".join(key.replace("/", ".").rpartition(".")[2] for key in swept)
    name = configs[0].study.name or keys or configs[0].model.name
    show_plans(configs, f"{name}-{configs[0].hardware.name}", several=True)
