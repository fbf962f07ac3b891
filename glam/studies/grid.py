"""A grid: every cell checked, the finished ones skipped, the rest launched, the study written."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from hydra.plugins.launcher import Launcher

from glam.composition.compose import Composer
from glam.composition.overrides import groups
from glam.config import DataConfig, RunConfig
from glam.data.sources import checked_sources
from glam.errors import JobFailedError, UserError
from glam.log import log
from glam.machine.resources import resolve
from glam.planning.preflight import check_fits
from glam.reporting import run_report, write_study
from glam.runs.folder import RunFolder, check_writable
from glam.studies.budget import check_comparison, cost_line
from glam.studies.study import Cell, Point, Study
from glam.studies.time_budget import check_time_budget, time_budget_warning, time_to_token_budget
from glam.tracking.study import track_study


class ShowPlans(Protocol):
    """Prints what runs need and cost, without running them."""

    def __call__(self, configs: Sequence[RunConfig], name: str, *, several: bool) -> None: ...


def run_grid(
    lines: Sequence[Sequence[str]],
    swept: Sequence[str],
    composer: Composer,
    launcher: Launcher,
    *,
    show_plans: ShowPlans,
    remote: bool = False,
) -> None:
    """`elsewhere`: the launcher has other machines, which share this one's files. Raises UserError
    before anything is made if one cell is refused, and JobFailedError at the end if a job
    failed."""
    if not lines:
        raise UserError("the grid is empty: a swept key has no value; give it at least one")
    if composer.config(lines[0]).task.name == "plan":
        _plan(lines, swept, composer, show_plans)
        return
    study = _study(lines, swept, composer, remote)
    pending = [cell for cell in study.cells if cell.config.rerun or not cell.is_done]
    if done := len(study.cells) - len(pending):
        log.info(f"{study.name}: {done} of {len(study.cells)} cells are done already")
    words = [[*study.line(cell), *(_as_here(cell) if remote else [])] for cell in pending]
    if pending and (check := getattr(launcher, "check", None)) is not None:
        check(words)
    _record(study)
    try:
        if pending:
            launcher.launch(words, initial_job_idx=0)
    finally:
        # Also after Ctrl-C: what is done so far is in the table.
        is_written = _write(study)
    for cell in pending:
        if cell.seconds and (words := time_budget_warning(cell.seconds, cell.run.summary())):
            log.info(f"{cell.name}: {words}")
    if pending and is_written:
        track_study(study.cells[0].config.logger, study.folder)
    if failed := study.failures():
        raise JobFailedError(
            f"{len(failed)} of {len(study.cells)} jobs failed: {'; '.join(failed)}; "
            f"the same line again runs only what is missing"
        )
    if not is_written:
        raise JobFailedError("the runs are done; the same line again writes their study")


def _study(
    lines: Sequence[Sequence[str]], swept: Sequence[str], composer: Composer, remote: bool
) -> Study:
    """The cells of the lines. Threads and precision are part of a run's identity, and what a
    machine chooses: a study that began on another one keeps that one's."""
    study = Study.of(checked(lines, swept, composer, remote=remote), swept)
    return _in_tokens(_as_begun(study, lines, composer, remote), remote)


def _as_begun(
    study: Study, lines: Sequence[Sequence[str]], composer: Composer, remote: bool
) -> Study:
    swept = study.swept
    hardware, here = composer.config(lines[0]).hardware, study.cells[0].resources
    begun = study.begun_with()
    if begun is None or begun["device"] != here.device:
        return study
    left_open = {"threads": hardware.threads is None, "precision": hardware.precision == "auto"}
    words = [
        f"hardware.{key}={begun[key]}"
        for key, is_open in left_open.items()
        if is_open and begun[key] != getattr(here, key)
    ]
    if not words:
        return study
    log.info(f"{study.name}: goes on with {' '.join(words)}, as it began")
    return Study.of(
        checked([[*line, *words] for line in lines], swept, composer, remote=remote), swept
    )


def _in_tokens(study: Study, remote: bool) -> Study:
    """Under its name, with tokens in the place of seconds: of the line before, where it has timed
    them, so that the same line again is the same study."""
    timed = [cell for cell in study.cells if cell.config.training.seconds is not None]
    if not timed:
        return study
    if remote:
        raise UserError(
            f"training.seconds={timed[0].config.training.seconds:g} is timed on this machine, and "
            f"the launcher's are others; set training.tokens"
        )
    for cell in timed:
        check_time_budget(cell.config, cell.overrides)
    throughputs: dict[str, float] = dict((study.begun_with() or {}).get("paces", {}))
    cells: dict[str, Cell] = {}
    for cell in study.cells:
        config, overrides, throughput = time_to_token_budget(
            cell.config, cell.resources, cell.overrides, throughputs
        )
        throughputs |= throughput
        run = RunFolder.of(config, cell.resources)
        seconds = cell.config.training.seconds
        cells[run.id] = replace(cell, config=config, overrides=overrides, run=run, seconds=seconds)
        if throughput:
            [rate] = throughput.values()
            log.info(f"{cell.name}: {config.training.tokens:,} tokens, at {rate:,.0f} a second")
    found = Study(study.name, list(cells.values()), study.swept)
    found.throughputs = throughputs
    return found


def _as_here(cell: Cell) -> list[str]:
    """What this machine chose for a cell: the one that gets it may choose otherwise, and would
    make another run of it."""
    hardware, chosen = cell.config.hardware, cell.resources
    words = [f"hardware.threads={chosen.threads}", f"hardware.precision={chosen.precision}"]
    if hardware.device == "auto":
        words.append(f"hardware.device={chosen.device.replace('cuda', 'gpu')}")
    return words


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
    """Whether it could be: a study without its page is no reason to lose what became of its
    runs."""
    try:
        for cell in study.cells:  # a run that was killed between its summary and its report
            if cell.is_done and not cell.run.report_file.exists():
                run_report(cell.run.path)
        log.info(f"study: {write_study(study.folder)}")
    except OSError as error:
        log.info(f"{study.folder.path} cannot be written ({error.strerror})")
        return False
    return True


def _plan(
    lines: Sequence[Sequence[str]],
    swept: Sequence[str],
    composer: Composer,
    show_plans: ShowPlans,
) -> None:
    """One table of all, in this process; no run folders."""
    lines = [list(line) for line in dict.fromkeys(map(tuple, lines))]
    points = [
        Point(values=_values(line, swept, composer), config=composer.config(line)) for line in lines
    ]
    check_comparison(points)
    for point, line in zip(points, lines, strict=True):
        check_time_budget(point.config, line)  # all, before the first is timed
    configs: list[RunConfig] = []
    for point, line in zip(points, lines, strict=True):
        config = point.config
        if config.training.seconds is not None:
            config = time_to_token_budget(config, resolve(config), line).config
        # A model's name is enough where nothing else is swept.
        cell = None if set(point.values) == {"model"} else point.name
        configs.append(replace(config, study=replace(config.study, cell=cell)))
    keys = "+".join(key.replace("/", ".").rpartition(".")[2] for key in swept)
    show_plans(configs, f"{keys}-{configs[0].hardware.name}", several=True)
    if not any(config.hardware.topology for config in configs):
        log.info(cost_line(configs))  # on this machine; a described one has its own figures


def checked(
    lines: Sequence[Sequence[str]],
    swept: Sequence[str],
    composer: Composer,
    *,
    remote: bool = False,
) -> list[Cell]:
    """The cells of a grid, each composed, validated and weighed; no two are the same run."""
    lines = _same_threads(lines, composer, remote)
    cells: dict[str, Cell] = {}
    texts: list[DataConfig] = []  # found to be there
    for line in lines:
        config = composer.config(line)
        if config.task.name != "train":
            raise UserError(f"task={config.task.name}: a grid trains; leave out -m")
        resources = resolve(config, remote=remote)
        run = RunFolder.of(config, resources)
        cell = Cell(
            overrides=list(line),
            values=_values(line, swept, composer),
            config=config,
            resources=resources,
            run=run,
        )
        if not cell.is_done:
            check_fits(config, resources, list(line))
            if config.data not in texts:
                _check_text(config)
                texts.append(config.data)
        cells.setdefault(run.id, cell)
    if len(cells) < len(lines):
        log.info(f"{len(lines) - len(cells)} cells are the same run as another and run once")
    check_comparison(list(cells.values()))
    return list(cells.values())


def _check_text(config: RunConfig) -> None:
    """That the text of a cell is there."""
    try:
        checked_sources(config.data)
    except UserError as error:
        if config.study.text_by is None:
            raise
        raise UserError(f"{error}; {config.study.text_by} writes it") from None


def _same_threads(
    lines: Sequence[Sequence[str]], composer: Composer, remote: bool
) -> list[list[str]]:
    """Bit-equality is promised per thread count, so that a grid gives every cell the same."""
    counts = {resolve(composer.config(line), remote=remote).threads for line in lines}
    if len(counts) == 1:
        return [list(line) for line in lines]
    return [[*line, f"hardware.threads={max(counts)}"] for line in lines]


def _values(line: Sequence[str], swept: Sequence[str], composer: Composer) -> dict[str, Any]:
    """What the swept keys are in this cell; a group by the name of its choice."""
    values: dict[str, Any] = {}
    for override in map(composer.parse, line):
        key = override.get_key_element().lstrip("+")
        if key in swept:
            is_group = override.key_or_group in groups()
            values[key] = str(override.value()) if is_group else override.value()
    return values
