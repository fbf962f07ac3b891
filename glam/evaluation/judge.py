"""A suite of tasks, judged: every task at every number of demonstrations, by lm-eval's engine."""
# lm-eval has types in part, and no stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from lm_eval.evaluator import evaluate
from lm_eval.utils import handle_non_serializable

from glam.config import OWN
from glam.errors import UserError
from glam.evaluation.harness import quiet
from glam.evaluation.language_model import GlamLM
from glam.evaluation.scores import TaskScore, digest, score, with_clean
from glam.evaluation.suites.base import AVERAGE, FitsContext, LoadedSuite
from glam.log import log
from glam.runs.evaluations import (
    SavedItems,
    SavedScore,
    SavedSuite,
    SavedSuiteItems,
    by_task,
)
from glam.runs.judged import averages

# Of the drawing of demonstrations: lm-eval's own, the same for all runs, so that they can be
# compared item by item.
FEWSHOT_SEED = 1234
BOOTSTRAPS = 1000  # for the standard error of a metric that is no mean
PACKAGES = ("lm_eval", "datasets", "torch")


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """What a suite found. `scores` has a row for each task, metric and number of demonstrations."""

    suite: str
    scores: list[TaskScore]
    missing: dict[str, str]
    averages: dict[str, dict[str, Any]]  # by name, as `average_of` makes them
    versions: dict[str, str]
    lm_eval: dict[str, dict[str, Any]] = field(repr=False)  # by column, as lm-eval has it

    def content(self) -> SavedSuite:
        """As `evaluation/<suite>.json` holds it."""
        left_out = ("each", "clusters")
        scores = [
            {name: value for name, value in vars(one).items() if name not in left_out}
            for one in self.scores
        ]
        return SavedSuite(
            suite=self.suite,
            scores=cast(list[SavedScore], scores),
            missing=self.missing,
            averages=self.averages,
            versions=self.versions,
        )

    def items(self) -> SavedSuiteItems:
        """As `evaluation/<suite>.items.json` holds it."""
        tasks = [
            SavedItems(
                task=one.task,
                metric=one.metric,
                column=one.column,
                digest=one.items_digest,
                each=[int(value) if value.is_integer() else value for value in one.each],
                clusters=None if one.clusters is None else list(one.clusters),
            )
            for one in self.scores
            if one.each
        ]
        return SavedSuiteItems(suite=self.suite, tasks=tasks)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """As `summary.json` holds it: the first metric of each task."""
        return by_task(self.content())


def run_suite(
    lm: GlamLM,
    loaded: LoadedSuite,
    num_fewshot: Sequence[int | str] = (),
    limit: int | None = None,
    seed: int = FEWSHOT_SEED,
    done: Callable[[SuiteResult], None] = lambda _: None,
) -> SuiteResult:
    """Judge all tasks of a suite, once for each of `num_fewshot`; "own", and where it is empty: at
    each task's own number of demonstrations. Only the first `limit` items of a task are taken.
    `done` is told what each column found, as soon as it is there."""
    scores: list[TaskScore] = []
    raw: dict[str, dict[str, Any]] = {}
    columns = check_columns(loaded, num_fewshot)
    for column, counts in columns.items():
        _set_up(lm, loaded.tasks, column, counts, seed)
        found, samples = _evaluate(lm, loaded.tasks, limit)
        _say_what_fits(lm, loaded.tasks)
        here = [
            one
            for name in loaded.tasks
            for one in _scores_of(loaded, name, column, found, samples[name])
        ]
        done(_result(loaded, here, {column: found}))
        scores += here
        raw[column] = found
    return _result(loaded, scores, raw)


def _result(
    loaded: LoadedSuite, scores: list[TaskScore], raw: dict[str, dict[str, Any]]
) -> SuiteResult:
    return SuiteResult(
        suite=loaded.name,
        scores=scores,
        missing=dict(loaded.missing),
        averages=_averages(loaded, scores),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        lm_eval=raw,
    )


def check_columns(
    loaded: LoadedSuite, num_fewshot: Sequence[int | str]
) -> dict[str, dict[str, int]]:
    """Demonstrations of each task, by column. Raises UserError for more than there are."""
    own = {
        name: int(loaded.num_fewshot.get(name, task.get_config("num_fewshot") or 0))
        for name, task in loaded.tasks.items()
    }
    columns = {
        "" if asked == OWN else f"{asked}-shot": own
        if asked == OWN
        else dict.fromkeys(own, int(asked))
        for asked in num_fewshot or (OWN,)
    }
    for counts in columns.values():
        for name, count in counts.items():
            _check(name, loaded.tasks[name], count)
    return columns


def _check(name: str, task: Any, num_fewshot: int) -> None:
    """Raises UserError for more demonstrations than there are."""
    if isinstance(task, FitsContext):
        task.check(num_fewshot)
    else:
        check_demonstrations(name, task, num_fewshot)


def _set_up(
    lm: GlamLM, tasks: Mapping[str, Any], column: str, counts: Mapping[str, int], seed: int
) -> None:
    """Before a column is judged: demonstrations, and what is refused of the prompts' lengths."""
    fit = all(isinstance(task, FitsContext) for task in tasks.values())
    asked = next(iter(counts.values())) if column and not fit else None
    lm.check_lengths = partial(check_lengths, lm.max_length, asked)
    for name, task in tasks.items():
        task.set_config("num_fewshot", counts[name])
        task.set_fewshot_seed(seed)
        if isinstance(task, FitsContext):
            task.fit(lm.count_tokens, lm.max_length)


def _say_what_fits(lm: GlamLM, tasks: Mapping[str, Any]) -> None:
    fewer = {
        name: task.fewer()
        for name, task in tasks.items()
        if isinstance(task, FitsContext) and task.fewer()
    }
    if fewer:
        log.info(
            f"demonstrations, as many as there are and fit {lm.max_length} tokens: "
            + ", ".join(f"{name} {count}" for name, count in fewer.items())
        )


def _evaluate(
    lm: GlamLM, tasks: Mapping[str, Any], limit: int | None
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """lm-eval's results as it would write them, and its samples by task."""
    with quiet():
        found: Any = evaluate(
            lm, {"tasks": dict(tasks)}, limit=limit, bootstrap_iters=BOOTSTRAPS, log_samples=True
        )
    samples = found.pop("samples")
    # Tasks are made of functions and classes too.
    return json.loads(json.dumps(found, default=handle_non_serializable)), samples


def _scores_of(
    loaded: LoadedSuite,
    name: str,
    column: str,
    found: dict[str, Any],
    samples: list[dict[str, Any]],
) -> list[TaskScore]:
    """Of a task, a score for each metric that is shown."""
    metrics = {
        key: value
        for key, value in found["results"][name].items()
        if "," in key and "_stderr," not in key and isinstance(value, (int, float))
    }
    wanted = loaded.metrics.get(name) or tuple(dict.fromkeys(k.split(",")[0] for k in metrics))
    cluster = loaded.cluster.get(name)
    chance = loaded.chance.get(name, _chance_of_choices(loaded.tasks[name], samples))
    rows: list[TaskScore] = []
    for key in (k for metric in wanted for k in metrics if k.split(",")[0] == metric):
        metric, _, kept = key.partition(",")
        of_filter = [one for one in samples if one["filter"] == kept and metric in one]
        is_guessable = not rows or metric.startswith("acc")
        found_score = score(
            task=name,
            metric=metric if kept == "none" else f"{metric} ({kept})",
            value=float(metrics[key]),
            stderr=found["results"][name].get(f"{metric}_stderr,{kept}"),
            chance=chance if is_guessable else None,
            num_fewshot=found["n-shot"][name],
            each=[one[metric] for one in of_filter],
            clusters=None if cluster is None else [cluster(one["doc"]) for one in of_filter],
            items_digest=digest([one["doc_hash"] for one in of_filter]),
            column=column,
            is_first=not rows,
            published=_published(loaded, name, metric, column),
        )
        rows.append(_beside_clean(loaded, found_score, metric, of_filter))
    return rows


def _beside_clean(
    loaded: LoadedSuite, whole: TaskScore, metric: str, samples: Sequence[dict[str, Any]]
) -> TaskScore:
    """The score with that of the items without overlap, where the overlap is known."""
    dirty = loaded.dirty.get(whole.task)
    if dirty is None:
        return whole
    aggregates: Any = loaded.tasks[whole.task].aggregation()  # untyped in lm-eval
    aggregate = aggregates[metric]
    of_samples = [bool(dirty[one["doc_id"]]) for one in samples]
    return with_clean(whole, of_samples, [one[metric] for one in samples], aggregate)


def _published(
    loaded: LoadedSuite, task: str, metric: str, column: str
) -> dict[str, dict[str, Any]]:
    """What papers give, by model; a column of one demonstration stands beside their one-shot."""
    setting = {"0-shot": "zero", "1-shot": "one"}.get(column, "few")
    return {
        one.model: {"value": one.value, "source": one.source, "doubt": one.doubt}
        for one in loaded.published
        if (one.task, one.metric, one.setting) == (task, metric, setting)
    }


def _chance_of_choices(task: Any, samples: Sequence[dict[str, Any]]) -> float | None:
    """What guessing scores where an item is a choice; None where it is not."""
    if task.OUTPUT_TYPE != "multiple_choice" or task.config.doc_to_choice is None:
        return None
    choices = [len(task.doc_to_choice(one["doc"])) for one in samples]
    return sum(1 / count for count in choices) / len(choices)


def check_demonstrations(name: str, task: Any, num_fewshot: int) -> None:
    """Raises UserError for more demonstrations than there are documents to draw them from."""
    sampler = getattr(task, "sampler", None)
    if sampler is None or not num_fewshot:
        return
    # Where demonstrations are drawn from the items themselves, an item is none of its own.
    own = task.fewshot_cfg.split == task.config.test_split
    there = len(sampler.fewshot_docs()) - own
    if num_fewshot > there:
        raise UserError(
            f"evaluation.num_fewshot={num_fewshot}: {name} has {there:,} documents for "
            f"demonstrations; take at most {max(0, there)}"
        )


def check_lengths(
    max_length: int, num_fewshot: int | None, lengths: Mapping[str, Sequence[int]]
) -> None:
    """Raises UserError where the demonstrations that were asked for do not fit into the context,
    for most items of a task. Warns of items that lose their start without any."""
    for task, of_items in lengths.items():
        cut = sum(length > max_length for length in of_items)
        if num_fewshot and 2 * cut > len(of_items):
            usual = sorted(of_items)[len(of_items) // 2]
            raise UserError(
                f"evaluation.num_fewshot={num_fewshot}: a prompt of {task} has {usual:,} tokens, "
                f"and the context {max_length:,}; take at most "
                f"{max(0, num_fewshot * max_length // usual - 1)}, or a longer "
                f"evaluation.max_length"
            )
        if cut:
            log.warning(
                f"{task}: {cut:,} of {len(of_items):,} prompts have more than {max_length:,} "
                f"tokens and lose their start; evaluation.max_length=... is the limit"
            )


def _averages(loaded: LoadedSuite, scores: Sequence[TaskScore]) -> dict[str, dict[str, Any]]:
    asked = {
        f"{name} {column}".rstrip(): {
            "over": list(tasks),
            "column": column,
            "published": _published(loaded, name, AVERAGE, column),
        }
        for name, tasks in loaded.averages.items()
        for column in dict.fromkeys(one.column for one in scores)
    }
    return averages(asked, [cast(SavedScore, vars(one)) for one in scores])
