"""A grid: every cell checked, the finished ones skipped, the rest launched, the study written."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hydra.plugins.launcher import Launcher

from glam.accounting.preflight import check_fits
from glam.cli.compose import Composer
from glam.cli.overrides import groups
from glam.config import DataConfig, RunConfig
from glam.data.sources import checked_sources
from glam.errors import JobFailedError, UserError
from glam.plans import show_plans
from glam.resources import resolve
from glam.runs import RunFolder, check_writable
from glam.studies.budget import check_comparison, cost_line
from glam.studies.seconds import check_timed, in_tokens, missed
from glam.studies.study import Cell, Point, Study, say
from glam.tracking.study import track_study


def run_grid(
    lines: Sequence[Sequence[str]],
    swept: Sequence[str],
    composer: Composer,
    launcher: Launcher,
    *,
    elsewhere: bool = False,
) -> None:
    """`elsewhere`: the launcher has other machines, which share this one's files. Raises UserError
    before anything is made if one cell is refused, and JobFailedError at the end if a job
    failed."""
    if not lines:
        raise UserError("the grid is empty: a swept key has no value; give it at least one")
    if composer.config(lines[0]).task.name == "plan":
        _plan(lines, swept, composer)
        return
    study = _study(lines, swept, composer, elsewhere)
    pending = [cell for cell in study.cells if cell.config.rerun or not cell.is_done]
    if done := len(study.cells) - len(pending):
        say(f"{study.name}: {done} of {len(study.cells)} cells are done already")
    words = [[*study.line(cell), *(_as_here(cell) if elsewhere else [])] for cell in pending]
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
        if cell.seconds and (words := missed(cell.seconds, cell.run.summary())):
            say(f"{cell.name}: {words}")
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
    lines: Sequence[Sequence[str]], swept: Sequence[str], composer: Composer, elsewhere: bool
) -> Study:
    """The cells of the lines. Threads and precision are part of a run's identity, and what a
    machine chooses: a study that began on another one keeps that one's."""
    study = Study.of(checked(lines, swept, composer, elsewhere=elsewhere), swept)
    return _in_tokens(_as_begun(study, lines, composer, elsewhere), elsewhere)


def _as_begun(
    study: Study, lines: Sequence[Sequence[str]], composer: Composer, elsewhere: bool
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
    say(f"{study.name}: goes on with {' '.join(words)}, as it began")
    return Study.of(
        checked([[*line, *words] for line in lines], swept, composer, elsewhere=elsewhere), swept
    )


def _in_tokens(study: Study, elsewhere: bool) -> Study:
    """Under its name, with tokens in the place of seconds: of the line before, where it has timed
    them, so that the same line again is the same study."""
    timed = [cell for cell in study.cells if cell.config.training.seconds is not None]
    if not timed:
        return study
    if elsewhere:
        raise UserError(
            f"training.seconds={timed[0].config.training.seconds:g} is timed on this machine, and "
            f"the launcher's are others; set training.tokens"
        )
    for cell in timed:
        check_timed(cell.config, cell.overrides)
    paces: dict[str, float] = dict((study.begun_with() or {}).get("paces", {}))
    cells: dict[str, Cell] = {}
    for cell in study.cells:
        config, overrides, pace = in_tokens(cell.config, cell.resources, cell.overrides, paces)
        paces |= pace
        run = RunFolder.of(config, cell.resources)
        seconds = cell.config.training.seconds
        cells[run.id] = replace(cell, config=config, overrides=overrides, run=run, seconds=seconds)
        if pace:
            [rate] = pace.values()
            say(f"{cell.name}: {config.training.tokens:,} tokens, at {rate:,.0f} a second")
    found = Study(study.name, list(cells.values()), study.swept)
    found.paces = paces
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
        study.write()
    except OSError as error:
        say(f"{study.folder.path} cannot be written ({error.strerror})")
        return False
    return True


def _plan(lines: Sequence[Sequence[str]], swept: Sequence[str], composer: Composer) -> None:
    """One table of all, in this process; no run folders."""
    lines = [list(line) for line in dict.fromkeys(map(tuple, lines))]
    points = [
        Point(values=_values(line, swept, composer), config=composer.config(line)) for line in lines
    ]
    check_comparison(points)
    for point, line in zip(points, lines, strict=True):
        check_timed(point.config, line)  # all, before the first is timed
    configs: list[RunConfig] = []
    for point, line in zip(points, lines, strict=True):
        config = point.config
        if config.training.seconds is not None:
            config = in_tokens(config, resolve(config), line).config
        # A model's name is enough where nothing else is swept.
        cell = None if set(point.values) == {"model"} else point.name
        configs.append(replace(config, study=replace(config.study, cell=cell)))
    keys = "+".join(key.replace("/", ".").rpartition(".")[2] for key in swept)
    show_plans(configs, f"{keys}-{configs[0].hardware.name}", several=True)
    if not any(config.hardware.topology for config in configs):
        say(cost_line(configs))  # on this machine; a described one has its own figures


def checked(
    lines: Sequence[Sequence[str]],
    swept: Sequence[str],
    composer: Composer,
    *,
    elsewhere: bool = False,
) -> list[Cell]:
    """The cells of a grid, each composed, validated and weighed; no two are the same run."""
    lines = _same_threads(lines, composer, elsewhere)
    cells: dict[str, Cell] = {}
    texts: list[DataConfig] = []  # found to be there
    for line in lines:
        config = composer.config(line)
        if config.task.name != "train":
            raise UserError(f"task={config.task.name}: a grid trains; leave out -m")
        resources = resolve(config, elsewhere=elsewhere)
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
        say(f"{len(lines) - len(cells)} cells are the same run as another and run once")
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
    lines: Sequence[Sequence[str]], composer: Composer, elsewhere: bool
) -> list[list[str]]:
    """Bit-equality is promised per thread count, so that a grid gives every cell the same."""
    counts = {resolve(composer.config(line), elsewhere=elsewhere).threads for line in lines}
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
