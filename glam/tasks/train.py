"""`task=train`: prepare the text, train, evaluate, report."""

import contextlib
import importlib
import importlib.util
import math
import sys
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from glam.config import GenerateTaskConfig, RunConfig
from glam.errors import NO_SPACE, JobFailedError, UserError, first_line
from glam.log import log
from glam.machine.energy import EnergyMeter
from glam.machine.energy_by_phase import EnergyByPhase
from glam.machine.processes import rank, under_torchrun
from glam.machine.resources import Resources, emulation, pin_threads, resolve
from glam.progress import stage
from glam.runs.contents import Overlap
from glam.runs.folder import RunFolder
from glam.runs.identity import code_fingerprint
from glam.runs.record import why_diverged
from glam.runs.study_folder import StudyFolder
from glam.tasks.evaluate import held_out_losses, judge_suite, load_suite
from glam.tasks.generate import samples
from glam.tasks.overlap import FILE as OVERLAP
from glam.tasks.overlap import keep_overlap, mark, overlap_of_text
from glam.tasks.prepare import check_places, described, prepare_suite, prepared_text

if TYPE_CHECKING:
    from glam.data import PreparedData, Tokenizer
    from glam.evaluation import DomainResult
    from glam.training import TrainingResult

SECONDS = "seconds.json"


def train(config: RunConfig, overrides: list[str]) -> None:
    """Train the run that `config` describes. A finished run is skipped and one that was cut off is
    resumed. Raises UserError where the run does not fit this machine, and JobFailedError where it
    fails or diverges."""
    from glam.planning.preflight import check_fits

    resources = resolve(config)
    run = RunFolder.of(config, resources)
    if not config.rerun and (summary := run.summary()) is not None:
        return _say_done(config, run, summary)
    if not config.rerun and run.has_begun:
        _check_text(config, run)
    check_fits(config, resources, overrides)
    _check_packages(config)
    check_places(config)
    if not config.rerun:
        run.check_files()
    pin_threads(resources)
    for line in (emulation(resources), config.rate_line):
        if line is not None:
            log.warning(line)
    meter = EnergyMeter.open(config.hardware, resources)
    energy_by_phase = EnergyByPhase(meter)
    with energy_by_phase.on("preparation"):
        prepared = prepared_text(config, own_tokenizer(config, run))
        prepare_suite(config, prepared)
        overlap_of_text(config, prepared)  # in the cache, from here on
    if config.model.init_from is not None and (config.rerun or not run.has_begun):
        _check_initial(config)
    if config.rerun and (old := run.move_aside()) is not None:
        log.info(f"the old run is now {old.name}")
    run.path.mkdir(parents=True, exist_ok=True)
    with stage("loading PyTorch and Lightning"):
        importlib.import_module("glam.training")
    with run.lock():
        run.failure_file.unlink(missing_ok=True)
        try:
            energy = _Energy(energy_by_phase, meter.source)
            _train_to_the_end(config, run, resources, prepared, energy)
        except (UserError, JobFailedError):
            raise
        except Exception as error:
            failed = _failed(run, error)
            if rank() > 0 and not _has_lost_another(error):
                with contextlib.redirect_stderr(sys.__stderr__):  # whose own is closed
                    log.error(f"process {rank()}: {failed}")
            raise failed from error
    if rank() == 0:
        _refresh_study(config)
    return None


def _check_text(config: RunConfig, run: RunFolder) -> None:
    """Raises UserError where the run was trained on other text than the one here."""
    from glam.data.same_text import check_same_text

    consequence = (
        "it cannot go on" if run.summary() is None else "its losses are those of that text"
    )
    check_same_text([(run, config.data)], consequence, config.cache_path)


def own_tokenizer(config: RunConfig, run: RunFolder) -> "Tokenizer | None":
    """Of a run that goes on and took its tokenizer from elsewhere."""
    from glam.data import Tokenizer

    elsewhere = config.model.init_from is not None or config.data.tokenizer is not None
    goes_on = elsewhere and run.has_begun and not config.rerun
    return Tokenizer(run.path) if goes_on and Tokenizer.is_in(run.path) else None


def _check_initial(config: RunConfig) -> None:
    """Raises UserError, before anything is written, for weights that the model cannot begin
    with."""
    with stage("loading PyTorch"):
        from glam.model.initial import initial_weights

    initial_weights(config)


def _refresh_study(config: RunConfig) -> None:
    """Update the page of the run's study while its grid is running."""
    name = config.study.name
    study = StudyFolder.find(str(config.runs_path / "studies" / name)) if name else None
    if study is None:
        return
    from glam.reporting import refresh_study

    try:
        refresh_study(study)
    except (OSError, UserError) as error:
        log.warning(f"the page of study {name} could not be updated: {error}")


class _Energy(NamedTuple):
    energy_by_phase: EnergyByPhase
    source: str


def _train_to_the_end(
    config: RunConfig,
    run: RunFolder,
    resources: Resources,
    prepared: "PreparedData",
    energy: _Energy,
) -> None:
    from glam.engines.choose import choose_engine
    from glam.reporting import print_summary
    from glam.reporting.experts import heat_maps
    from glam.tracking import open_tracker
    from glam.training import train

    _check_tokens(run, prepared)
    _describe(config, run, prepared)
    engine, seconds = choose_engine(config, resources), energy.energy_by_phase.seconds
    with open_tracker(config, run, resources, heat_maps) as tracker:
        result = train(
            config,
            prepared,
            run,
            resources,
            engine=engine,
            energy_by_phase=energy.energy_by_phase,
            tracker=tracker,
        )
        result, domains = _judge(config, run, prepared, result, energy)
        with energy.energy_by_phase.on("evaluation"):
            tasks = _tasks(config, run, prepared, result)
        summary = _summary(config, run, resources, prepared, result, domains, energy)
        summary["tasks"] = tasks
        overlap = run.read(OVERLAP, Overlap)
        summary["overlap"] = overlap["suites"] if overlap else {}
        tracker.summarize(summary)
        run.write_json("summary.json", summary)
        if result.processes.is_main:
            with seconds.on("report"):
                _write_report(run)
            tracker.keep_report()
    run.write_json(SECONDS, {name: one._asdict() for name, one in seconds.spent.items()})
    if result.processes.is_main:
        print_summary(summary, run.report_file)
    _raise_if_diverged(config, run, summary)


def _check_tokens(run: RunFolder, prepared: "PreparedData") -> None:
    """Raises UserError, before the run's tokenizer is written over, where the run was begun with
    other tokens: other text in a run that did not record its text, or text that is read otherwise
    now."""
    begun = run.data_fingerprint if run.has_begun else None
    if begun not in (None, prepared.fingerprint):
        raise UserError(
            f"{run.path.name} was started with other data, so it cannot be resumed; "
            f"rerun=true starts it over"
        )


def _describe(config: RunConfig, run: RunFolder, prepared: "PreparedData") -> None:
    """What is known of a run before it trains: its configuration, tokenizer, text and layout."""
    from glam.data import TrainStream
    from glam.planning.plan import layout

    run.write_config(config)
    if rank() == 0:
        prepared.tokenizer.copy_to(run.path)  # so that the run can be loaded without its text
    training = config.training
    stream = TrainStream(prepared, training.sequence_length, training.batch_size, config.seed)
    epochs = {"epochs": stream.epochs(training.num_steps)}
    run.write_json("data.json", described(prepared) | epochs)
    keep_overlap(config, run, prepared)
    if table := layout(config):
        run.write_json("layout.json", table)


def _judge(
    config: RunConfig,
    run: RunFolder,
    prepared: "PreparedData",
    result: "TrainingResult",
    energy: _Energy,
) -> "tuple[TrainingResult, dict[str, DomainResult]]":
    """Held-out losses, the experts each domain goes to, and samples; of a run that is done. One
    whose weights turn out to be useless has diverged."""
    from glam.evaluation import UselessWeightsError

    if result.status != "done":
        return result, {}
    with energy.energy_by_phase.on("evaluation"):
        domains = held_out_losses(config, result.model, prepared, result.processes)
    # Several processes write a token together: none may stop before the others.
    seconds = 10.0 if result.processes.size == 1 else math.inf
    try:
        if not all(math.isfinite(domain.loss) for domain in domains.values()):
            raise UselessWeightsError
        task = GenerateTaskConfig()
        with energy.energy_by_phase.seconds.on("evaluation"):
            written = samples(config, result.model, prepared.tokenizer, task, seconds)
    except UselessWeightsError:
        why = "its last weights give NaN or Inf on held-out text"
        return result._replace(status="diverged", why_diverged=why), {}
    _write_routing(run, result, domains)
    run.write_json("generated.json", written)
    return result, domains


def _tasks(
    config: RunConfig, run: RunFolder, prepared: "PreparedData", result: "TrainingResult"
) -> dict[str, dict[str, Any]]:
    """Scores of the suite of a run that is done, by suite and task. None where they cannot be had,
    which a line says: a trained run is not lost over its tasks."""
    if result.status != "done":
        return {}
    try:
        loaded = load_suite(config, prepared)
        if loaded is None:
            return {}
        loaded = mark(config, run, prepared.texts, loaded, config.evaluation)
        model, tokenizer = result.model, prepared.tokenizer
        judged = judge_suite(config, loaded, model, tokenizer, result.processes, run=run)
    except Exception as error:
        # What one process alone runs into leaves the others waiting for it.
        if result.processes.size > 1 and not isinstance(error, UserError):
            raise
        log.warning(f"evaluation={config.evaluation.name}: no task was judged ({_line_of(error)})")
        return {}
    return {judged.suite: judged.tasks()}


def _summary(
    config: RunConfig,
    run: RunFolder,
    resources: Resources,
    prepared: "PreparedData",
    result: "TrainingResult",
    domains: "dict[str, DomainResult]",
    energy: _Energy,
) -> dict[str, Any]:
    from glam.tasks.summary import energy_of, summarize

    summary = summarize(config, run, resources, result, domains, prepared.fingerprint)
    summary["text_fingerprint"] = prepared.text_fingerprint
    summary["energy"] = energy_of(config, summary, result.joules(), energy.source)
    return summary


def _write_report(run: RunFolder) -> None:
    from glam.reporting import run_report

    with stage("writing the report"):
        run_report(run.path)


def _write_routing(
    run: RunFolder, result: "TrainingResult", domains: "dict[str, DomainResult]"
) -> None:
    """Which experts each domain goes to, layer by layer."""
    model = result.model.config
    if not model.is_sparse or not domains:
        return
    layers = [layer for layer in range(model.num_layers) if model.is_moe_layer(layer)]
    share = [[domain.shares[i] for domain in domains.values()] for i in range(len(layers))]
    run.write_json("routing.json", {"layers": layers, "domains": list(domains), "share": share})


def _say_done(config: RunConfig, run: RunFolder, summary: dict[str, Any]) -> None:
    """Show a finished run, and warn of what has changed since."""
    from glam.reporting import print_summary, run_report

    _check_text(config, run)
    if not run.report_file.exists() and rank() == 0:
        run_report(run.path)  # it was killed between its summary and its report
    log.info(f"{run.path.name} is done already; rerun=true runs it again")
    print_summary(summary, run.report_file)
    if summary.get("code_fingerprint") != code_fingerprint():
        log.warning("the code has changed since; rerun=true runs it again")
    if run.run_config().evaluation != config.evaluation:
        log.warning(
            f"evaluation differs from what the run was evaluated with; "
            f"task=evaluate run={run.path} evaluates it as asked for here"
        )
    _raise_if_diverged(config, run, summary)


def _raise_if_diverged(config: RunConfig, run: RunFolder, summary: dict[str, Any]) -> None:
    """Of several processes the main one says it: one that failed before would have it stopped in
    the middle of its report."""
    follows = config.hardware.is_cluster and rank() > 0
    if summary["status"] == "diverged" and not follows:
        raise JobFailedError(
            f"{run.path.name} diverged: {why_diverged(summary)}; "
            f"try a lower optimizer.learning_rate, which is another run"
        )


def _check_packages(config: RunConfig) -> None:
    """Raises UserError for a missing package before the work, not after it."""
    needed = ["torch", "lightning", "safetensors", "sentencepiece", "sklearn", "matplotlib"]
    for name in [*needed, "wandb"] if config.logger.name == "wandb" else needed:
        if importlib.util.find_spec(name) is None:
            way = ", or take logger=csv" if name == "wandb" else ""
            raise UserError(f"the package {name} is not installed; make run sets up .venv{way}")


def _has_lost_another(error: Exception) -> bool:
    """Whether a process failed because another of its group is gone: gloo and NCCL say so."""
    words = ("closed by peer", "Read error", "gloo", "NCCL")
    return under_torchrun() and any(word in str(error) for word in words)


def _line_of(error: Exception) -> str:
    words = first_line(error)
    return words if isinstance(error, UserError) else f"{type(error).__name__}: {words}"


def _failed(run: RunFolder, error: Exception) -> JobFailedError:
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return JobFailedError(
            f"{run.path.name} stopped: no space left in {run.path.parent} ({error.strerror}); free "
            f"some; the same command resumes from the last checkpoint"
        )
    line = _line_of(error)
    with contextlib.suppress(OSError):
        run.write_failure(line, "".join(traceback.format_exception(error)))
    if _has_lost_another(error):
        return JobFailedError(
            f"{run.path.name} stopped: another of its processes is gone (killed, or out of "
            f"memory?); the same command resumes from the last checkpoint (traceback in "
            f"{run.failure_file})"
        )
    return JobFailedError(f"{run.path.name} failed: {line} (traceback in {run.failure_file})")
