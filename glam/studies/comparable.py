"""Cells of a study are compared where they were trained on the text that is here, and evaluated on
equal amounts of it: checked before one starts."""

from collections.abc import Iterator

from glam.config import DataConfig, EvaluationConfig, RunConfig
from glam.data.same_text import check_same_text
from glam.errors import UserError
from glam.log import log
from glam.runs.folder import RunFolder
from glam.runs.study_folder import StudyFolder
from glam.studies.study import Study

# What the losses in summary.json, which a study pairs, are measured on; and what decides the points
# of the curves. Other fields of the section decide the tasks.
DETERMINES_THE_LOSS = ("tokens_per_domain",)
OF_THE_CURVES = ("points", "tokens_per_point")


def check_evaluations(study: Study) -> None:
    """Raises UserError where a finished run of the study was evaluated on another amount of text
    than this command asks for. Warns where only its curve has other points."""
    wanted = study.cells[0].config.evaluation
    for name, run in _finished(study):
        if (found := _evaluation(run)) is None:
            continue
        if keys := _differing(found, wanted, DETERMINES_THE_LOSS):
            asked, kept = _words(wanted, keys), _words(found, keys)
            raise UserError(
                f"{name} was evaluated with {kept} and this command asks for {asked}, so their "
                f"losses do not compare; type {kept} to keep the finished runs, or rerun=true to "
                f"train and evaluate them again (task=evaluate run={run.path} {asked} shows the "
                f"losses of one alone)"
            )
        others = set(vars(wanted)) - {*DETERMINES_THE_LOSS, *OF_THE_CURVES}
        if _differing(found, wanted, tuple(others)):
            log.warning(
                f"{name} was judged with evaluation={found.name} and this command asks for "
                f"evaluation={wanted.name}, or for other tasks of it: losses compare, tasks only "
                f"where they are the same"
            )
        if keys := _differing(found, wanted, OF_THE_CURVES):
            log.warning(
                f"{name} was measured with {_words(found, keys)} and this command asks for "
                f"{_words(wanted, keys)}: curves have other points, final losses compare"
            )


def check_texts(study: Study) -> None:
    """Raises UserError where a run of the study, finished or begun, was trained on other text than
    its data.corpus names now: its losses would be paired with those of another text."""
    consequence = "this study would pair its losses with another text's"
    cache = next((cell.config.cache_path for cell in study.cells), None)
    check_same_text(_with_data(study), consequence, cache)


def warn_of_unlike_runs(study: StudyFolder) -> None:
    """Says in the terminal what the study's page says of runs that do not compare."""
    from glam.analysis import machines, paired, texts  # scipy: a refused line can do without

    rows = [paired.StudyRow.of(row) for row in study.rows()]
    for line in (machines.unlike_machines(rows), texts.unlike_texts(rows)):
        if line:
            log.warning(line)


def _with_data(study: Study) -> Iterator[tuple[RunFolder, DataConfig]]:
    """The runs that are kept or go on, each with the names of its text."""
    for cell in study.cells:
        if not cell.config.rerun and (cell.is_done or cell.run.has_begun):
            yield cell.run, cell.config.data
    here = {cell.run.path.name for cell in study.cells}
    for _, run in _finished(study):
        if run.path.name not in here and (config := _config(run)) is not None:
            yield run, config.data


def _finished(study: Study) -> Iterator[tuple[str, RunFolder]]:
    """Runs that stay as they are: cells that are done, and those that earlier commands brought
    into the study, by name."""
    here = {cell.run.path.name for cell in study.cells}
    for cell in study.cells:
        if not cell.config.rerun and _has_losses(cell.run):
            yield cell.name, cell.run
    for path in study.folder.runs:
        if path.name not in here and _has_losses(RunFolder(path)):
            yield path.name, RunFolder(path)


def _has_losses(run: RunFolder) -> bool:
    return (run.summary() or {}).get("status") == "done"


def _evaluation(run: RunFolder) -> EvaluationConfig | None:
    """How the run was evaluated; None where its configuration cannot be read."""
    config = _config(run)
    return None if config is None else config.evaluation


def _config(run: RunFolder) -> RunConfig | None:
    try:
        return run.run_config()
    except UserError:
        return None


def _differing(
    found: EvaluationConfig, wanted: EvaluationConfig, keys: tuple[str, ...]
) -> list[str]:
    return [key for key in keys if getattr(found, key) != getattr(wanted, key)]


def _words(evaluation: EvaluationConfig, keys: list[str]) -> str:
    """As typed on the command line."""
    return " ".join(f"evaluation.{key}={getattr(evaluation, key)}" for key in keys)
