"""The verbs of the command line, one function each. Heavy imports wait for the work that needs
them: a finished run is skipped, and a refused one refused, before torch is loaded."""

import contextlib
import importlib.util
import math
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from glam.config import GenerateTaskConfig, RunConfig
from glam.environments import to_xla_environment
from glam.errors import NO_SPACE, JobFailedError, UserError, first_line
from glam.identity import DETERMINES_THE_RESULT, code_fingerprint
from glam.peers import ALONE, Peers, are_here, rank
from glam.plans import show_plans
from glam.resources import Resources, pin_threads, resolve
from glam.runs import RunFolder, check_writable
from glam.studies.folder import StudyFolder
from glam.studies.leash import hold_leash
from glam.studies.seconds import check_timed, in_tokens, missed
from glam.studies.study import say

if TYPE_CHECKING:
    from glam.accounting import Spending
    from glam.data import PreparedData
    from glam.model import Glam
    from glam.training import TrainingResult


def run_task(config: RunConfig, overrides: list[str]) -> None:
    """Do what `config.task` names; `overrides` is the line as typed, for suggestions."""
    if rank() > 0:
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - the first speaks
    hold_leash()
    seconds = config.training.seconds if config.task.name in ("train", "plan") else None
    if seconds is not None:
        check_timed(config, overrides)
        config, overrides, paces = in_tokens(config, resolve(config), overrides)
        [pace] = paces.values()
        say(f"training.seconds: {config.training.tokens:,} tokens, at {pace:,.0f} a second")
    if config.hardware.is_xla or config.hardware.is_cluster:
        _hand_over(config)
    tasks: dict[str, Callable[[RunConfig, list[str]], None]] = {
        "train": train,
        "plan": plan,
        "prepare": prepare,
        "evaluate": evaluate,
        "generate": generate,
        "report": report,
    }
    tasks[config.task.name](config, overrides)
    if seconds is not None and config.task.name == "train":
        words = missed(seconds, RunFolder.of(config, resolve(config)).summary())
        if words is not None:
            say(words)


def _hand_over(config: RunConfig) -> None:
    """To the interpreter that has torch_xla, where this one has not; or to several processes."""
    name = config.task.name
    if name not in ("train", "evaluate", "generate"):
        return
    if name != "train":
        raise UserError(
            f"task={name} works on one device, not on hardware={config.hardware.name}; "
            f"try hardware=auto"
        )
    resources = resolve(config)  # what this machine lacks is said first
    if config.hardware.is_xla:
        to_xla_environment(f"hardware={config.hardware.name}")
    elif not are_here():
        from glam.parallel.launch import launch

        launch(config.hardware, resources)
        raise SystemExit(0)


def train(config: RunConfig, overrides: list[str]) -> None:
    """Prepare, train, evaluate, report. Skips a finished run, goes on with one cut off."""
    from glam.accounting import EnergyMeter, Spending
    from glam.accounting.preflight import check_fits

    resources = resolve(config)
    run = RunFolder.of(config, resources)
    if not config.rerun and (summary := run.summary()) is not None:
        return _say_done(config, run, summary)
    check_fits(config, resources, overrides)
    _check_packages(config)
    check_writable(config)
    pin_threads(resources)
    meter = EnergyMeter.open(config.hardware, resources)
    spending = Spending(meter)
    with spending.on("preparation"):
        prepared = _prepared(config)
    if config.rerun and (old := run.move_aside()) is not None:
        print(f"the old run is now {old.name}", file=sys.stderr)
    run.path.mkdir(parents=True, exist_ok=True)
    with run.lock():
        run.failure_file.unlink(missing_ok=True)
        try:
            energy = _Energy(spending, meter.source)
            _train_to_the_end(config, run, resources, prepared, energy)
        except (UserError, JobFailedError, BrokenPipeError):
            raise
        except Exception as error:
            failed = _failed(run, error)
            if rank() > 0 and not _has_lost_another(error):
                print(f"process {rank()}: {failed}", file=sys.__stderr__)
            raise failed from error
    if rank() == 0:
        _refresh_study(config)
    return None


def _refresh_study(config: RunConfig) -> None:
    """The page of the study that the run belongs to, while its grid goes on."""
    name = config.study.name
    study = StudyFolder.find(str(config.runs_path / "studies" / name)) if name else None
    if study is None:
        return
    try:
        study.refresh()
    except (OSError, UserError) as error:
        print(f"the page of study {name} is as old as it was: {error}", file=sys.stderr)


def plan(config: RunConfig, overrides: list[str]) -> None:
    """What the run needs and costs, without allocating any of it."""
    show_plans([config], f"{config.model.name}-{config.hardware.name}", several=False)


def prepare(config: RunConfig, overrides: list[str]) -> None:
    """Text to packed tokens, cached."""
    check_writable(config)
    pin_threads(resolve(config))
    prepared = _prepared(config)
    tokens = sum(component.num_tokens for component in prepared.components)
    print(f"{tokens:,} training tokens in {len(prepared.components)} components; ready to train")


def evaluate(config: RunConfig, overrides: list[str]) -> None:
    """Held-out loss per domain of a trained run."""
    from glam.reporting.console import print_losses
    from glam.summary import with_mean

    run, config = _trained(config, overrides)
    model, prepared = _loaded(run, config)
    domains = _evaluate(config, model, prepared)
    losses = with_mean({name: domain.loss for name, domain in domains.items()})
    bits = with_mean({name: domain.bits_per_byte for name, domain in domains.items()})
    run.write_json("evaluation.json", {"loss": losses, "bits_per_byte": bits})
    print_losses(losses, bits)


def generate(config: RunConfig, overrides: list[str]) -> None:
    """Text from a trained run: greedy where `task.temperature` is 0."""
    task = config.task
    assert isinstance(task, GenerateTaskConfig)
    run, config = _trained(config, overrides)
    model, prepared = _loaded(run, config)
    for sample in _generate(config, model, prepared, task):
        print(sample["prompt"] + sample["text"], end="\n\n")


def report(config: RunConfig, overrides: list[str]) -> None:
    """Write a run's report, or a study's page, anew from what its folder holds. With `logger=wandb`
    on the line, for W&B too: the study's artifact, and a workspace and a report."""
    from glam.reporting import run_report

    found = StudyFolder.find(str(config.checkpoint)) or RunFolder.at(str(config.checkpoint))
    print(found.write() if isinstance(found, StudyFolder) else run_report(found.path))
    if "logger=wandb" in overrides:
        from glam.tracking.study import track_study
        from glam.tracking.workspace import publish, subject_of

        if isinstance(found, StudyFolder):
            track_study(config.logger, found)
        publish(config.logger, subject_of(found))


def _trained(config: RunConfig, overrides: list[str]) -> tuple[RunFolder, RunConfig]:
    """The run named by `checkpoint`, and its own configuration with this line's task and hardware,
    and what it says of the evaluation. Raises UserError for a line that asks for another model or
    other data."""
    run = RunFolder.at(str(config.checkpoint))
    trained, typed = run.run_config(), dict[str, Any]()
    for override in overrides:
        key, _, name = override.lstrip("+").partition("=")[0].partition(".")
        section = key.split("/")[0]
        if section in DETERMINES_THE_RESULT and section != "seed":
            raise UserError(
                f"{override}: task={config.task.name} takes {section} from the run at checkpoint="
                f"{config.checkpoint}; leave it out"
            )
        if section == "evaluation":
            whole = vars(config.evaluation)  # a choice of the group sets all of it
            typed |= {name: whole[name]} if name else whole
    mine = {name: getattr(config, name) for name in ("task", "hardware", "seed", "checkpoint")}
    return run, replace(trained, **mine, evaluation=replace(trained.evaluation, **typed))


def _loaded(run: RunFolder, config: RunConfig) -> "tuple[Glam, PreparedData]":
    """The newest weights of the run, and the text and tokenizer it was trained with."""
    resources = resolve(config)
    pin_threads(resources)
    import torch

    from glam.model import Glam

    torch.set_num_threads(resources.threads)
    dtype = torch.bfloat16 if resources.precision == "bfloat16" else torch.float32
    model = Glam.from_run(run.path, dtype=dtype).to(resources.device)
    return model, _prepared(config)


class _Energy(NamedTuple):
    spending: "Spending"
    source: str


def _train_to_the_end(
    config: RunConfig,
    run: RunFolder,
    resources: Resources,
    prepared: "PreparedData",
    energy: _Energy,
) -> None:
    from glam.accounting.plan import layout
    from glam.data import TrainStream
    from glam.reporting import print_summary, run_report
    from glam.summary import energy_of, summarize
    from glam.tracking import open_tracker
    from glam.training import train

    run.write_config(config)
    stream = TrainStream(
        prepared, config.training.sequence_length, config.training.batch_size, config.seed
    )
    data = {
        "fingerprint": prepared.fingerprint,
        "funnel": prepared.funnel,
        "samples": prepared.samples,
        "quality": prepared.quality,
        "epochs": stream.epochs(config.training.num_steps),
    }
    run.write_json("data.json", data)
    if table := layout(config):
        run.write_json("layout.json", table)
    spending = energy.spending
    with open_tracker(config, run, resources) as tracker:
        result = train(config, prepared, run, resources, spending=spending, tracker=tracker)
        with spending.on("evaluation"):
            done = result.status == "done"
            domains = _evaluate(config, result.model, prepared, result.peers) if done else {}
        _write_routing(run, result, domains)
        if result.status == "done":
            # Several processes write a token together: none may stop before the others.
            seconds = 10 if result.peers.size == 1 else math.inf
            samples = _generate(config, result.model, prepared, GenerateTaskConfig(), seconds)
            run.write_json("generated.json", samples)
        summary = summarize(config, run, resources, result, domains, prepared.fingerprint)
        summary["energy"] = energy_of(config, summary, result.joules(), energy.source)
        tracker.summarize(summary)
    run.write_json("summary.json", summary)
    if result.peers.leads:
        print_summary(summary, run_report(run.path))
    _raise_if_diverged(run, summary)


def _evaluate(
    config: RunConfig, model: "Glam", prepared: "PreparedData", peers: Peers = ALONE
) -> "dict[str, Any]":
    from glam.evaluation import evaluate_domains
    from glam.progress import track

    return evaluate_domains(
        model,
        prepared,
        sequence_length=config.training.sequence_length,
        batch_size=config.training.batch_size,
        max_tokens=config.evaluation.tokens_per_domain,
        domains=track(prepared.domains, "evaluate", len(prepared.domains), "domains"),
        peers=peers,
    )


def _write_routing(run: RunFolder, result: "TrainingResult", domains: dict[str, Any]) -> None:
    """Which experts each domain goes to, layer by layer."""
    model = result.model.config
    if not model.is_sparse or not domains:
        return
    layers = [layer for layer in range(model.num_layers) if model.is_moe_layer(layer)]
    share = [[domain.shares[i] for domain in domains.values()] for i in range(len(layers))]
    run.write_json("routing.json", {"layers": layers, "domains": list(domains), "share": share})


def _generate(
    config: RunConfig,
    model: "Glam",
    prepared: "PreparedData",
    task: GenerateTaskConfig,
    seconds: float = math.inf,
) -> list[dict[str, Any]]:
    """`seconds` for each sample: a model of billions writes a token in several."""
    from glam.evaluation import generate
    from glam.progress import track

    samples = task.samples if task.temperature > 0 else 1  # greedy: they would all be the same
    return [
        {
            "prompt": task.prompt,
            "temperature": task.temperature,
            "text": generate(
                model,
                prepared.tokenizer,
                task.prompt,
                max_tokens=task.max_tokens,
                temperature=task.temperature,
                top_p=task.top_p,
                seed=config.seed + sample,
                context=config.training.sequence_length,
                seconds=seconds,
            ),
        }
        for sample in track(range(samples), "generate", samples, "samples")
    ]


def _say_done(config: RunConfig, run: RunFolder, summary: dict[str, Any]) -> None:
    """What a finished run says when it is asked for again."""
    from glam.reporting import print_summary, run_report

    if not run.report_file.exists() and rank() == 0:
        run_report(run.path)  # it was killed between its summary and its report
    print(f"{run.path.name} is done already; rerun=true runs it anew", file=sys.stderr)
    print_summary(summary, run.report_file)
    if summary.get("code_fingerprint") != code_fingerprint():
        print("warning: the code has changed since; rerun=true runs it anew", file=sys.stderr)
    if run.run_config().evaluation != config.evaluation:
        print(
            "warning: evaluation differs from what the run was evaluated with; "
            f"task=evaluate checkpoint={run.path} evaluates it as this line says",
            file=sys.stderr,
        )
    _raise_if_diverged(run, summary)


def _raise_if_diverged(run: RunFolder, summary: dict[str, Any]) -> None:
    if summary["status"] == "diverged":
        raise JobFailedError(
            f"{run.path.name} diverged: gradients were NaN or Inf for too many steps in a row; "
            f"try a lower optimizer.learning_rate, which is another run"
        )


def _prepared(config: RunConfig) -> "PreparedData":
    from glam.data import prepare as prepare_data

    return prepare_data(config.data, config.model.vocab_size, config.cache_path)


def _check_packages(config: RunConfig) -> None:
    """What is missing is said before the work, not after it."""
    needed = ["torch", "lightning", "safetensors", "sentencepiece", "sklearn", "matplotlib"]
    for name in [*needed, "wandb"] if config.logger.name == "wandb" else needed:
        if importlib.util.find_spec(name) is None:
            way = ", or take logger=csv" if name == "wandb" else ""
            raise UserError(f"the package {name} is not installed; make run sets up .venv{way}")


def _has_lost_another(error: Exception) -> bool:
    """Whether a process failed for want of one that trained with it, as gloo and NCCL say it."""
    words = ("closed by peer", "Read error", "gloo", "NCCL")
    return are_here() and any(word in str(error) for word in words)


def _failed(run: RunFolder, error: Exception) -> JobFailedError:
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return JobFailedError(
            f"{run.path.name} stopped: no space left in {run.path.parent} ({error.strerror}); free "
            f"some, and the same line goes on from the last checkpoint"
        )
    line = f"{type(error).__name__}: {first_line(error)}"
    with contextlib.suppress(OSError):
        run.write_failure(line, "".join(traceback.format_exception(error)))
    if _has_lost_another(error):
        return JobFailedError(
            f"{run.path.name} stopped: another of its processes is gone (killed, or out of "
            f"memory?); the same line goes on from the last checkpoint (traceback in "
            f"{run.failure_file})"
        )
    return JobFailedError(f"{run.path.name} failed: {line} (traceback in {run.failure_file})")
