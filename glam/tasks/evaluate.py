"""`task=evaluate`: held-out loss per domain of a trained run, and a suite of tasks."""

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from glam.config import EvaluateTaskConfig, RunConfig
from glam.log import log
from glam.machine.processes import SINGLE, Processes
from glam.machine.resources import resolve
from glam.runs.evaluations import file_of, name_of
from glam.runs.folder import RunFolder
from glam.runs.judged import keep
from glam.tasks.overlap import clean_held_out, mark, text_here
from glam.tasks.prepare import HELD_OUT, check_data_dir
from glam.tasks.summary import losses_of
from glam.tasks.trained import load_model, load_tokenizer, text_of, trained_runs

if TYPE_CHECKING:
    from glam.data import PreparedData, Tokenizer
    from glam.evaluation import DomainResult
    from glam.evaluation.judge import SuiteResult
    from glam.evaluation.suites import LoadedSuite
    from glam.model import Glam


def evaluate(config: RunConfig, overrides: list[str]) -> None:
    """Evaluate each run that `run=` names, print what was found and keep it in the run's folder;
    several runs are compared with the first, item by item."""
    from glam.reporting.tasks import print_comparison

    runs = trained_runs(config, overrides)
    for run, _ in runs:
        run.check_files()
        run.check_writable("evaluation.json")
    found = {run.path.name: _evaluate(run, of_run) for run, of_run in runs}
    judged = {name: result for name, result in found.items() if result is not None}
    if len(judged) > 1:
        print_comparison({name: result.items() for name, result in judged.items()})


def _evaluate(run: RunFolder, config: RunConfig) -> "SuiteResult | None":
    """Held-out losses where the run's text is needed, and the suite, of a run."""
    from glam.reporting.console import print_losses
    from glam.reporting.tasks import print_suite

    task = config.task
    assert isinstance(task, EvaluateTaskConfig)
    keeps = not task.expert_scale and task.active_threshold is None
    if not keeps:
        log.info(
            "task.expert_scale and task.active_threshold make another model: its results are "
            "shown, and not kept"
        )
    prepared = text_of(run, config) if needs_text(config) else None
    loaded = load_suite(config, prepared)
    if loaded is not None and keeps:
        run.check_writable(file_of(name_of(loaded.name, config.evaluation)))
    tokenizer = load_tokenizer(run, config) if prepared is None else prepared.tokenizer
    model = load_model(run, config)
    if prepared is not None:
        domains = held_out_losses(config, model, prepared)
        losses = losses_of(domains)
        if keeps:
            run.write_json("evaluation.json", losses)
        print_losses(losses)
    if loaded is None:
        return None
    texts = text_here(config, run) if prepared is None else prepared.texts
    loaded = mark(config, run, texts, loaded, run.run_config().evaluation)
    kept = run if keeps else None
    result = judge_suite(config, loaded, model, tokenizer, run=kept)
    if keeps:
        _show_elsewhere(run, config)
    print_suite(run.path.name, result.content())
    return result


def _show_elsewhere(run: RunFolder, config: RunConfig) -> None:
    """On the page of a finished run, and on W&B."""
    from glam.reporting import run_report
    from glam.tracking import track_tasks

    if run.summary() is None:
        return
    run_report(run.path)
    track_tasks(config, run, resolve(config))


def needs_text(config: RunConfig) -> bool:
    """Whether the text that the run was trained on is needed: for losses, or to make tasks of."""
    if config.evaluation.name == HELD_OUT:
        return True
    from glam.evaluation.suites import SUITES

    return SUITES[config.evaluation.name].needs_text


def load_suite(config: RunConfig, prepared: "PreparedData | None") -> "LoadedSuite | None":
    """The tasks of `evaluation`, ready to be judged; None where it asks for held-out loss alone.
    Raises UserError for a task that there is not, where no task has its data, and for more
    demonstrations than there are."""
    if config.evaluation.name == HELD_OUT:
        return None
    from glam.evaluation.judge import check_columns
    from glam.evaluation.suites import SUITES
    from glam.progress import stage

    check_data_dir(config.evaluation)
    suite = SUITES[config.evaluation.name]()
    with stage("loading tasks"):
        loaded = suite.load(config.evaluation, prepared if suite.needs_text else None)
    for task, why in loaded.missing.items():
        log.warning(f"{task} is left out: {why}")
    check_columns(loaded, config.evaluation.num_fewshot)
    return loaded


def judge_suite(
    config: RunConfig,
    loaded: "LoadedSuite",
    model: "Glam",
    tokenizer: "Tokenizer",
    processes: Processes = SINGLE,
    *,
    run: RunFolder | None,
) -> "SuiteResult":
    """Scores of the tasks, under bars. Each column is kept in the folder of the `run` as soon as
    it is judged, and before that the answers so far, so that one that is killed goes on."""
    from glam.evaluation.journal import journal
    from glam.evaluation.judge import run_suite
    from glam.evaluation.language_model import GlamLM

    asked, longest = config.evaluation, config.evaluation.max_length
    if model.one_shape:
        longest = config.training.sequence_length  # of every row there, whatever it holds
    named = replace(loaded, name=name_of(loaded.name, asked))

    def done(found: "SuiteResult") -> None:
        if run is not None:
            keep(run, found.content(), found.items(), found.lm_eval)

    with ExitStack() as stack:
        so_far = None
        if run is not None and processes.size == 1:
            file = run.path / file_of(named.name, ".part")
            file = file.with_name(f".{file.name}")
            so_far = stack.enter_context(journal(file, model, max_length=longest))
        lm = GlamLM(model, tokenizer, max_length=longest, processes=processes, journal=so_far)
        return run_suite(lm, named, asked.num_fewshot, asked.limit, done=done)


def held_out_losses(
    config: RunConfig, model: "Glam", prepared: "PreparedData", processes: Processes = SINGLE
) -> "dict[str, DomainResult]":
    """By domain, on `evaluation.tokens_per_domain` tokens of each, under a bar."""
    from glam.evaluation import evaluate_domains
    from glam.progress import track

    return evaluate_domains(
        model,
        prepared,
        sequence_length=config.training.sequence_length,
        batch_size=config.training.batch_size,
        max_tokens=config.evaluation.tokens_per_domain,
        domains=track(prepared.domains, "evaluate", len(prepared.domains), "domains"),
        clean=clean_held_out(config, prepared),
        processes=processes,
    )
