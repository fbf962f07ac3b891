"""How the training text of a run overlaps with what it is evaluated on."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from glam.config import EvaluationConfig, RunConfig
from glam.errors import UserError
from glam.log import log
from glam.runs.contents import Overlap as SavedOverlap
from glam.runs.folder import RunFolder
from glam.units import percent, whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from glam.data import PreparedData, Texts
    from glam.data.contamination import EvaluationItems, Overlap
    from glam.evaluation.suites import LoadedSuite, Suite

FILE = "overlap.json"


def items_of(config: RunConfig) -> "Callable[[Texts], list[EvaluationItems]]":
    """Every evaluation set of a configuration, for a text. Raises UserError where a task's items
    cannot be had: what is removed for them would depend on it."""

    def of(texts: "Texts") -> "list[EvaluationItems]":
        found = _of_text(config, texts)
        suite = _suite(config)
        if suite is None or len(found) > 1:
            return found
        loaded = suite.load(config.evaluation, None)
        if loaded.missing:
            task, why = next(iter(loaded.missing.items()))
            raise UserError(
                f"data.contamination.remove=true needs the items of every task, and {task} is left "
                f"out: {why}; bring them, or evaluation.tasks=[{','.join(loaded.tasks)}]"
            )
        return [*found, suite.items(loaded)]

    return of


def keep_overlap(config: RunConfig, run: RunFolder, prepared: "PreparedData") -> None:
    """Write what is known before a run trains into its folder."""
    found = overlap_of_text(config, prepared)
    if found is not None:
        _keep(config, run, found)


def keep_overlap_of(config: RunConfig, texts: "Texts") -> None:
    """Puts the overlap that `overlap_of_text` tells into the cache."""
    from glam.data.contamination import overlap

    if config.data.contamination.report:
        with contextlib.suppress(UserError):  # told where it is asked for again
            overlap(texts, _of_text(config, texts))


def overlap_of_text(config: RunConfig, prepared: "PreparedData") -> "Overlap | None":
    """The overlap with held-out documents, and with a suite that is made of the run's text. None
    where it is not asked for, or cannot be kept, which a line says."""
    if prepared.texts is None:
        return None
    return _overlap(config, prepared.texts, _of_text(config, prepared.texts))


def clean_held_out(config: RunConfig, prepared: "PreparedData") -> "dict[str, NDArray[np.bool_]]":
    """By domain, which of its held-out documents have no n-gram of the training text `[documents]`;
    those that were not looked for count as if they had. Empty where that is not known."""
    import numpy as np

    from glam.data.contamination import HELD_OUT, HELD_OUT_DOCUMENTS

    found = overlap_of_text(config, prepared)
    if found is None or prepared.texts is None:
        return {}
    numbers = prepared.texts.held_out_numbers(HELD_OUT_DOCUMENTS)
    dirty = found.dirty(HELD_OUT, removed=config.data.contamination.remove)
    clean: dict[str, NDArray[np.bool_]] = {}
    for domain, its in dirty.items():
        clean[domain] = np.zeros(len(prepared.held_out[domain]), bool)
        clean[domain][numbers[domain]] = ~its
    return clean


def say_overlap(config: RunConfig, prepared: "PreparedData") -> dict[str, Any]:
    """A line for each evaluation set of a text; and all of them, as in `overlap.json`."""
    suites: dict[str, Any] = {}
    for found in (overlap_of_text(config, prepared), _overlap_of_suite(config, prepared)):
        suites |= (reported := found.report() if found else {})
        for suite, tasks in reported.items():
            items, dirty = (sum(task[key] for task in tasks.values()) for key in ("items", "dirty"))
            log.info(
                f"{suite}: {whole(dirty)} of {whole(items)} items ({percent(dirty / items)}) have "
                f"an n-gram that is in the training text"
            )
    return {"removed": config.data.contamination.remove, "suites": suites}


def _overlap_of_suite(config: RunConfig, prepared: "PreparedData") -> "Overlap | None":
    """The overlap with a suite that brings its own data."""
    from glam.tasks.evaluate import load_suite

    suite = _suite(config)
    if suite is None or prepared.texts is None or suite.needs_text:
        return None
    try:
        loaded = load_suite(config, prepared)
    except UserError as error:
        log.warning(f"the overlap with evaluation={suite.name} is not known ({error})")
        return None
    assert loaded is not None
    return _overlap(config, prepared.texts, [suite.items(loaded)])


def mark(
    config: RunConfig,
    run: RunFolder,
    texts: "Texts | None",
    loaded: "LoadedSuite",
    own: EvaluationConfig,
) -> "LoadedSuite":
    """The suite with its items marked that overlap with the run's training text, which the run's
    folder keeps too. As it was where that is not known. `own` is the evaluation that the run was
    trained with: only what overlaps with its items may have been removed."""
    suite = _suite(config)
    if texts is None or suite is None:
        return loaded
    sets = _of_text(config, texts) if suite.needs_text else [suite.items(loaded)]
    found = _overlap(config, texts, sets)
    if found is None:
        return loaded
    _keep(config, run, found)
    same = (own.name, own.tasks) == (config.evaluation.name, config.evaluation.tasks)
    removed = config.data.contamination.remove and same
    return replace(loaded, dirty=found.dirty(sets[-1].suite, removed=removed))


def text_here(config: RunConfig, run: RunFolder) -> "Texts | None":
    """The training text of a run, where the cache has it; None with a line where it has not, or has
    another."""
    from glam.data import cached_texts
    from glam.data.same_text import check_same_text

    if not config.data.contamination.report:
        return None
    try:
        check_same_text([(run, config.data)], "its overlap would be another's", is_read=True)
        found = cached_texts(config.data, config.model.vocab_size, config.cache_path)
        why = "it is not in the cache; task=prepare brings it" if found is None else ""
    except UserError as error:
        found, why = None, str(error)
    if found is None:
        log.info(f"{run.path.name}: no overlap with its training text is shown ({why})")
    return found


def _suite(config: RunConfig) -> "Suite | None":
    from glam.tasks.prepare import HELD_OUT

    if config.evaluation.name == HELD_OUT:
        return None
    from glam.evaluation.suites import SUITES

    return SUITES[config.evaluation.name]()


def _of_text(config: RunConfig, texts: "Texts") -> "list[EvaluationItems]":
    """The sets that are made of a text."""
    from glam.data.contamination import held_out_items

    suite = _suite(config)
    of_suite = suite.items_of_text(texts) if suite is not None else None
    return [held_out_items(texts), *([] if of_suite is None else [of_suite])]


def _overlap(
    config: RunConfig, texts: "Texts", sets: "Sequence[EvaluationItems]"
) -> "Overlap | None":
    from glam.data.contamination import overlap

    if not config.data.contamination.report:
        return None
    try:
        return overlap(texts, sets)
    except UserError as error:
        log.warning(f"the overlap with evaluation sets is not known ({error})")
        return None


def _keep(config: RunConfig, run: RunFolder, found: "Overlap") -> None:
    """Beside what the run's folder has of other suites."""
    saved = run.read(FILE, SavedOverlap)
    suites = (saved["suites"] if saved else {}) | found.report()
    run.write_json(FILE, {"removed": config.data.contamination.remove, "suites": suites})
