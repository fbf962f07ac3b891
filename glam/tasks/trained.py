"""A trained run as `evaluate`, `generate` and `glam.load` take it up: its configuration, model and
tokenizer."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from glam.config import FewerExpertsConfig, RunConfig, ScaledExpertsConfig
from glam.errors import UserError
from glam.log import log
from glam.machine.resources import Resources, pin_threads, resolve
from glam.progress import stage
from glam.runs.finding import find_run
from glam.runs.folder import RunFolder
from glam.runs.identity import DETERMINES_THE_RESULT
from glam.tasks.prepare import prepared_text

if TYPE_CHECKING:
    from glam.data import PreparedData, Tokenizer
    from glam.model import Glam

# What a task takes from its own command; all else is the run's.
OF_EXPERTS = ("expert_scale", "active_threshold", "expert_type", "memory_mb")  # keys of tasks
OWN = ("task", "hardware", "seed", "run", "export")


def trained_runs(config: RunConfig, overrides: list[str]) -> list[tuple[RunFolder, RunConfig]]:
    """Each run that `run=a,b` names, as `trained_run` gives it."""
    named = str(config.run)
    several = "," in named and RunFolder.containing(named) is None
    names = [name for name in named.split(",") if name] if several else [named]
    found = [trained_run(replace(config, run=name), overrides) for name in names]
    folders = [run.path.resolve() for run, _ in found]
    if len(set(folders)) < len(folders):
        raise UserError(f"run={named} names a run twice; name different ones")
    return found


def trained_run(config: RunConfig, overrides: list[str]) -> tuple[RunFolder, RunConfig]:
    """The run that `run=` names, and its configuration with this command's task, hardware and
    seed, and with its keys of `evaluation`, its `logger` and `cache_dir` where they are typed.
    Raises UserError for a command that asks for another model or other data than the run's."""
    run = find_run(str(config.run), config.runs_path)
    trained, typed = run.run_config(), dict[str, Any]()
    own = {name: getattr(config, name) for name in OWN}
    for override in overrides:
        key, _, name = override.lstrip("+").partition("=")[0].partition(".")
        section = key.split("/")[0]
        if section in DETERMINES_THE_RESULT and section != "seed":
            raise UserError(
                f"{override}: task={config.task.name} takes {section} from run={config.run}; "
                f"leave it out"
            )
        if section == "evaluation":
            whole = vars(config.evaluation)  # a choice of the group sets all of it
            typed |= {name: whole[name]} if name else whole
        if section in ("cache_dir", "logger"):
            own[section] = getattr(config, section)
    _check_experts(run, trained, config)
    return run, replace(trained, **own, evaluation=replace(trained.evaluation, **typed))


def _check_experts(run: RunFolder, trained: RunConfig, config: RunConfig) -> None:
    """Raises UserError for a key of experts where the run has none that it could be about."""
    task, model = config.task, trained.model
    usual = type(task)()
    for name in OF_EXPERTS:
        value = getattr(task, name, None)
        if value == getattr(usual, name, None):
            continue
        if not model.is_sparse:
            raise UserError(
                f"task.{name}={value} is about experts, and {run.path.name} is dense: it has none; "
                f"leave it out"
            )
        if name == "active_threshold" and model.top_k == 1:
            raise UserError(
                f"task.{name}={value} is about experts after a token's first, and "
                f"{run.path.name} has model.top_k=1; leave it out"
            )


def load_model(run: RunFolder, config: RunConfig) -> "Glam":
    """The newest weights of the run, on as many threads as the run's hardware asks for, its experts
    as the task asks."""
    resources = resolve(config)
    pin_threads(resources)
    with stage("loading PyTorch"):
        import torch

    torch.set_num_threads(resources.threads)
    return experts_as_asked(model_on(run, resources), config)


def experts_as_asked(model: "Glam", config: RunConfig) -> "Glam":
    """The model with its experts as `task.expert_scale` and `task.active_threshold` ask, where the
    task has these keys."""
    from glam.model.scaling import scale_experts

    task = config.task
    if isinstance(task, FewerExpertsConfig) and task.active_threshold is not None:
        model.use_experts_above(task.active_threshold)
    return scale_experts(model, task.scales) if isinstance(task, ScaledExpertsConfig) else model


def model_on(run: RunFolder, resources: Resources) -> "Glam":
    """The newest weights of the run, on the device and in the precision of `resources`."""
    import torch

    from glam.model import Glam

    dtype = torch.bfloat16 if resources.precision == "bfloat16" else torch.float32
    return Glam.from_run(run.path, dtype=dtype).to(resources.device)


def load_tokenizer(run: RunFolder, config: RunConfig) -> "Tokenizer":
    """The tokenizer that lies with the run, which needs no text; of a run that has none (trained
    before 0.2.0), the one that is made of its text. Raises UserError where that is not the run's
    own."""
    from glam.data import Tokenizer

    if not Tokenizer.is_in(run.path):
        return text_of(run, config).tokenizer
    tokenizer = Tokenizer(run.path)
    if tokenizer.vocab_size != config.model.vocab_size:
        raise UserError(
            f"{run.path}: its tokenizer has {tokenizer.vocab_size:,} pieces and its model "
            f"{config.model.vocab_size:,}, so it is not the run's own; bring that back"
        )
    return tokenizer


def text_of(run: RunFolder, config: RunConfig) -> "PreparedData":
    """The text of the run in the tokens that it was trained on: those of the tokenizer that lies
    with it. Raises UserError where the text here is another one."""
    from glam.data import Tokenizer
    from glam.data.same_text import check_same_text

    consequence = "another text's losses would stand for the run's"
    check_same_text([(run, config.data)], consequence, config.cache_path, is_read=True)
    has_own = Tokenizer.is_in(run.path)
    # What was removed from it was so for the run's own evaluation.
    trained = replace(config, evaluation=run.run_config().evaluation)
    prepared = prepared_text(trained, load_tokenizer(run, config) if has_own else None)
    if run.data_fingerprint not in (None, prepared.fingerprint):
        if run.text_fingerprint is None:
            raise UserError(
                f"{run.path.name}: its data.corpus gives other tokens than it was trained on: "
                f"{consequence}; bring that text back, or train it anew on this one with "
                f"rerun=true on its own line"
            )
        log.warning(
            f"{run.path.name}: this version of glam makes other tokens of its text than the one "
            f"that trained it, so losses may not compare with its own"
        )
    return prepared
