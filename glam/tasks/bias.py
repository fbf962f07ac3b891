"""`task=bias`: what a trained run associates with groups of people, through which experts, and what
a correction of those changes."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from glam.config import BiasTaskConfig, RunConfig
from glam.log import log
from glam.runs.folder import RunFolder
from glam.tasks.trained import load_model, load_tokenizer, text_of, trained_run

if TYPE_CHECKING:
    from glam.analysis.bias import Expert, Values
    from glam.data import PreparedData, Tokenizer
    from glam.evaluation.bias.continuations import Continuation
    from glam.evaluation.bias.measure import Probe
    from glam.evaluation.bias.toxicity import Scorer
    from glam.evaluation.document_losses import DocumentLosses
    from glam.model import Glam

BIAS, CORRECTION = "bias.json", "correction.json"


def bias(config: RunConfig, overrides: list[str]) -> None:
    """Measure, print, and keep what was found in the run's `bias.json` and its report; with
    `task.expert_scale` what that changes, in `correction.json`."""
    from glam.evaluation.bias.toxicity import MISSING, toxicity_scorer
    from glam.reporting import run_report
    from glam.reporting.bias import print_bias, print_correction

    run, config = trained_run(config, overrides)
    task = config.task
    assert isinstance(task, BiasTaskConfig)
    run.check_files()
    name = CORRECTION if task.expert_scale else BIAS
    run.check_writable(name)
    # The text is asked for before the model is loaded: it may be missing.
    prepared = text_of(run, config) if task.expert_scale else None
    tokenizer = load_tokenizer(run, config)
    model = load_model(run, replace(config, task=replace(task, expert_scale=[])))
    if prepared is not None:
        found = corrected(config, run, model, tokenizer, prepared)
        run.write_json(name, found)
        print_correction(found, run_report(run.path))
        return
    scorer = toxicity_scorer() if task.samples else None
    if scorer is None and task.samples:
        log.warning(MISSING)
    found = measured(config, model, tokenizer, scorer)
    run.write_json(name, found)
    print_bias(found, run_report(run.path))


def measured(
    config: RunConfig, model: "Glam", tokenizer: "Tokenizer", scorer: "Scorer | None"
) -> dict[str, Any]:
    """What `bias.json` holds."""
    from glam.analysis.bias import associations, by_expert, coreference, toxicity, words
    from glam.evaluation.bias import measure

    task = config.task
    assert isinstance(task, BiasTaskConfig)
    tested = {"shuffles": task.shuffles, "seed": config.seed}
    probe = measure.Probe.of(tokenizer)
    whole, sides = probe.values(model), dict(probe.sides)
    texts = _written(config, model, tokenizer)
    scores = scorer([one.text for one in texts]) if scorer is not None and texts else None
    found: dict[str, Any] = {
        "shuffles": task.shuffles,
        "associations": associations(whole, sides, **tested),
        "coreference": coreference(measure.coreference(model, tokenizer)),
        "words": words([(one.group.kind, one.group.name, one.words) for one in texts]),
        "toxicity": [],
        "experts": [],
        "num_tested": 0,
    }
    if scores is not None:
        groups = [(one.group.kind, one.group.name) for one in texts]
        found["toxicity"] = toxicity(groups, scores, **tested)
    if config.model.is_sparse and task.by_expert:
        without = dict(_without_each(model, probe, texts if scores is not None else []))
        if scores is not None:
            whole, sides = _with_toxicity(model, probe, texts, scores, whole, sides)
        found |= by_expert(whole, without, sides, **tested)
    return found


def _written(config: RunConfig, model: "Glam", tokenizer: "Tokenizer") -> "list[Continuation]":
    from glam.evaluation.bias.continuations import continuations
    from glam.progress import stage

    task = config.task
    assert isinstance(task, BiasTaskConfig)
    if not task.samples:
        return []
    with stage("writing texts"):
        return continuations(
            model,
            tokenizer,
            samples=task.samples,
            max_tokens=task.max_tokens,
            seed=config.seed,
            context=config.training.sequence_length,
        )


def _without_each(
    model: "Glam", probe: "Probe", texts: "list[Continuation]"
) -> "Iterable[tuple[Expert, Values]]":
    """The numbers of every association without each expert; those of texts where there are."""
    from glam.evaluation.bias.measure import experts_in, without_each
    from glam.progress import track

    experts = experts_in(model)
    for expert in without_each(model, track(experts, "leave out", len(experts), "experts")):
        yield expert, {**probe.values(model), **_of_texts(model, probe, texts)}


def _of_texts(model: "Glam", probe: "Probe", texts: "list[Continuation]") -> "Values":
    from glam.evaluation.bias.log_probabilities import token_log_probabilities

    if not texts:
        return {}
    encoded = [(one.tokens, one.start) for one in texts]
    return {"toxicity": token_log_probabilities(model, encoded, probe.padding)}


def _with_toxicity(
    model: "Glam",
    probe: "Probe",
    texts: "list[Continuation]",
    scores: list[float],
    whole: "Values",
    sides: "Values",
) -> "tuple[Values, Values]":
    """Beside the other associations: how likely a text is, against how toxic it is. Leaving out an
    expert that makes toxic texts likelier lowers their probability more than the others'."""
    import numpy as np

    return (
        {**whole, **_of_texts(model, probe, texts)},
        {**sides, "toxicity": np.array(scores)},
    )


def corrected(
    config: RunConfig,
    run: RunFolder,
    model: "Glam",
    tokenizer: "Tokenizer",
    prepared: "PreparedData",
) -> dict[str, Any]:
    """What `correction.json` holds: bias, loss by domain, and tasks, without and with the experts
    scaled."""
    from glam.analysis.bias import correction, loss_changes
    from glam.evaluation.bias.measure import Probe
    from glam.model.scaling import scaled_experts

    task = config.task
    assert isinstance(task, BiasTaskConfig)
    probe = Probe.of(tokenizer)
    before = probe.values(model), _losses(config, model, prepared)
    tasks_before = _items(config, model, tokenizer, prepared)
    with scaled_experts(model, task.scales):
        after = probe.values(model), _losses(config, model, prepared)
        tasks_after = _items(config, model, tokenizer, prepared)
    tested = {"shuffles": task.shuffles, "seed": config.seed}
    return {
        "expert_scale": list(task.expert_scale),
        "associations": correction(before[0], after[0], probe.sides, **tested),
        "loss": loss_changes(before[1], after[1]),
        "tasks": _task_changes(tasks_before, tasks_after),
    }


def _losses(
    config: RunConfig, model: "Glam", prepared: "PreparedData"
) -> "dict[str, DocumentLosses]":
    from glam.evaluation.document_losses import document_losses
    from glam.progress import track

    return document_losses(
        model,
        prepared,
        sequence_length=config.training.sequence_length,
        batch_size=config.training.batch_size,
        max_tokens=config.evaluation.tokens_per_domain,
        domains=track(prepared.domains, "evaluate", len(prepared.domains), "domains"),
    )


def _items(
    config: RunConfig, model: "Glam", tokenizer: "Tokenizer", prepared: "PreparedData"
) -> Any:
    """Scores of every item of the suite that `evaluation` names; None for held-out loss alone."""
    from glam.tasks.evaluate import judge_suite, load_suite

    loaded = load_suite(config, prepared)
    if loaded is None:
        return None
    return judge_suite(config, loaded, model, tokenizer, run=None).items()


def _task_changes(before: Any, after: Any) -> list[dict[str, Any]]:
    from glam.analysis.items import item_differences

    if before is None:
        return []
    [changes] = item_differences({"": ([before], [after])}).values()
    return [
        {
            "task": one.task,
            "metric": one.metric,
            "column": one.column,
            "items": one.items,
            "before": one.first,
            "after": one.second,
            "change": one.mean,
            "low": one.interval[0] if one.interval else None,
            "high": one.interval[1] if one.interval else None,
            "p": one.adjusted,
        }
        for one in changes
    ]
