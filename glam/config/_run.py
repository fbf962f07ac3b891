"""The configuration of a run: a section for each group of `conf/`, and the top-level keys."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from glam.config._checks import (
    chosen_by_group,
    not_in_identity,
    plain_name,
    plain_path,
    within,
)
from glam.config._data import DataConfig
from glam.config._evaluation import EvaluationConfig
from glam.config._hardware import HardwareConfig
from glam.config._load import TASK_CLASSES
from glam.config._model import ModelConfig
from glam.config._tasks import TASKS, TaskConfig
from glam.config._training import TrainingConfig
from glam.config.optimizers import AUTO, OPTIMIZERS, OptimizerConfig
from glam.config.optimizers.adamw import AdamWConfig
from glam.config.paths import typed_path
from glam.config.schedules import ScheduleConfig
from glam.config.schedules.linear import LinearScheduleConfig
from glam.errors import UserError, one_of
from glam.log import LEVELS

BUDGETS = ("tokens", "flops", "seconds")
# tasks that take a trained run
READING = ("evaluate", "analyze", "bias", "generate", "export", "report")


@dataclass(kw_only=True)
class LoggerConfig:
    """Where metrics are shown. `metrics.csv` is written in any case."""

    name: str = "wandb"  # wandb | csv | none, a file of conf/logger
    project: str = "glam"  # of Weights & Biases
    entity: str | None = None  # user or team of Weights & Biases; null: the one logged in
    mode: str = "auto"  # auto (online where logged in, else offline) | online | offline

    def __post_init__(self) -> None:
        one_of("logger.name", self.name, ("wandb", "csv", "none"))
        one_of("logger.mode", self.mode, ("auto", "online", "offline"))


@dataclass(kw_only=True)
class StudyConfig:
    """Name and question of a grid. No key of it changes a result: two studies can share a run."""

    name: str | None = None  # of its folder in runs/studies; null: made of the swept keys
    compares: str | None = None  # the swept key whose values are compared; null: found by rule
    baseline: str | None = None  # the value of that key that the others are compared with
    budget: str | None = None  # what compared runs have in common: tokens | flops | seconds
    cell: str | None = None  # name of this run within its study: num_experts=8, seed=1
    # a study's folder or name, or latest, for task=report; may be typed as study=<folder>
    folder: str | None = None
    text_by: str | None = None  # command that writes the study's text; null: none is needed

    def __post_init__(self) -> None:
        plain_name("study.name", self.name)
        if self.budget is not None:
            one_of("study.budget", self.budget, BUDGETS)
        if self.baseline is not None and self.compares is None:
            raise UserError(
                f"study.baseline={self.baseline} is a value of no key; set study.compares too"
            )


@dataclass(kw_only=True)
class ExportConfig:
    """Where task=export writes a run as a folder that Hugging Face's libraries load."""

    path: str | None = None  # a new folder; relative to the repository's root

    def __post_init__(self) -> None:
        if self.path is not None:
            plain_path("export.path", typed_path("export.path", self.path))


@dataclass(kw_only=True)
class RunConfig:
    """One experiment in full."""

    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=AdamWConfig)
    schedule: ScheduleConfig = field(default_factory=LinearScheduleConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    seed: int = 0  # of the initial weights, the order of the batches and the routing
    rerun: bool = not_in_identity(False)  # move a finished run aside and run it again
    # for task=evaluate, analyze, bias, generate, export and report: a run's folder, latest, or the
    # unique beginning of its name or id
    run: str | None = not_in_identity(None)
    log_level: str = not_in_identity("info")  # least that is told: debug | info | warning | error
    runs_dir: str = not_in_identity("runs")  # folder of runs; relative to the repository's root
    cache_dir: str = not_in_identity("cache")  # folder of prepared text; relative likewise

    def __post_init__(self) -> None:
        within("", self, 0, 2**32 - 1, "seed")
        one_of("log_level", self.log_level, LEVELS)
        for key in ("runs_dir", "cache_dir"):
            if not getattr(self, key).strip():
                raise UserError(f"{key} is empty; name a folder, for example {key}={key[:-4]}")
            typed_path(key, getattr(self, key))
        plain_path("runs_dir", self.runs_path)
        plain_path("cache_dir", self.cache_path)
        self._check_names()
        self._set_tokens()
        self._check_slots()
        self._check_optimizer()
        reading = self.task.name in READING
        if self.run is not None and not reading:
            raise UserError(
                f"run={self.run} is for task={', '.join(READING)}; a run that was cut "
                f"off is resumed by its own command, without it"
            )
        if self.study.folder is not None and self.task.name != "report":
            raise UserError(f"study={self.study.folder} names a study's folder, for task=report")
        if reading and self.run is None and self.study.folder is None:
            raise UserError(
                f"task={self.task.name} needs run=<a run folder>, for example run=latest or "
                f"run=runs/<name>-<id>"
            )
        if (self.task.name == "export") != (self.export.path is not None):
            raise UserError(
                "task=export needs export.path=<a new folder>"
                if self.export.path is None
                else f"export.path={self.export.path} is for task=export"
            )

    def _set_tokens(self) -> None:
        each = self.training.tokens_per_parameter
        if each is not None:
            tokens = max(1, round(each * self._twin_params))
            self.training = replace(self.training, tokens=tokens)

    def _check_slots(self) -> None:
        priority = self.model.priority
        if priority != "position" and not self.model_as_built.dispatcher_config.static_shapes:
            raise UserError(
                f"model.priority={priority} says who gets an expert's slots, and model.dispatcher="
                f"{self.dispatcher} has none; add model.dispatcher=capacity"
            )

    def _check_names(self) -> None:
        chosen_by_group("optimizer", self.optimizer)
        chosen_by_group("schedule", self.schedule)
        chosen_by_group("data.corpus", self.data.corpus)
        # Of the tasks, those that have keys of their own have a class each.
        plain = [name for name in TASKS if name not in TASK_CLASSES]
        chosen_by_group("task", self.task, *(plain if type(self.task) is TaskConfig else []))

    def _check_optimizer(self) -> None:
        optimizer = self.optimizer
        if self.training.update_in_backward and not optimizer.updates_one_weight:
            able = OPTIMIZERS.where(lambda kind: kind.updates_one_weight)
            raise UserError(
                f"training.update_in_backward=true but optimizer={optimizer.name} needs all "
                f"gradients at once; take optimizer={' or '.join(able)}, or leave it out"
            )
        if self.training.accumulate > 1 and self.hardware.engine != "one_device":
            raise UserError(
                f"training.accumulate={self.training.accumulate} is for one device, and "
                f"hardware={self.hardware.name} is of {self.hardware.devices}; leave it out, or "
                f"take a smaller training.batch_size"
            )
        # Steps of one shape read no number back, on whatever engine.
        for engine in {self.hardware.engine, *(["xla"] if self.hardware.has_one_shape else [])}:
            self._check_engine(engine)

    def _check_engine(self, engine: str) -> None:
        if engine not in self.optimizer.engines:
            able = OPTIMIZERS.where(lambda kind: engine in kind.engines)
            raise UserError(
                f"hardware={self.hardware.name} does not support optimizer={self.optimizer.name}, "
                f"which does not train on the engine {engine}; try optimizer={' or '.join(able)}"
            )

    @property
    def flops_per_token(self) -> int:
        """Forward FLOPs per token at the sequence length trained on."""
        return self.model.flops_per_token(self.training.sequence_length)

    @property
    def dispatcher(self) -> str:
        """Name of the dispatcher that trains: `model.dispatcher`, but `capacity` in the place of
        one without static shapes on hardware that needs these."""
        needs_slots = self.hardware.has_one_shape and not self.model.dispatcher_config.static_shapes
        return "capacity" if needs_slots else self.model.dispatcher

    @property
    def model_as_built(self) -> ModelConfig:
        """`model` with the dispatcher that its hardware needs."""
        return replace(self.model, dispatcher=self.dispatcher)

    @property
    def optimizer_as_built(self) -> OptimizerConfig:
        """`optimizer` with its learning rate as a number, also where it is `auto`."""
        rule = self.optimizer.rate_rule
        if self.optimizer.learning_rate != AUTO or rule is None:
            return self.optimizer
        training = self.training
        rate = rule.rate(self._twin_params, training.tokens, training.tokens_per_step)
        return replace(self.optimizer, learning_rate=rate)

    @property
    def _twin_params(self) -> int:
        """Active parameters of the dense twin, so that twins train at one rate."""
        return replace(self.model, num_experts=1).num_active_params

    @property
    def rate_line(self) -> str | None:
        """A line about a learning rate whose rule was not fitted, or not to such a run; None where
        there is nothing to say."""
        rule = self.optimizer.rate_rule
        if self.optimizer.learning_rate != AUTO or rule is None:
            return None
        said = f"optimizer.learning_rate=auto: {self.optimizer_as_built.rate:g} is"
        if not rule.source:
            return (
                f"{said} by constants that were fitted to nothing (optimizer.auto.source is empty)"
            )
        beyond = rule.beyond(self._twin_params, self.training.tokens)
        if beyond is None:
            return None
        return f"{said} beyond what its rule was fitted to: {beyond}"

    @property
    def runs_path(self) -> Path:
        return ROOT / typed_path("runs_dir", self.runs_dir)

    @property
    def cache_path(self) -> Path:
        return ROOT / typed_path("cache_dir", self.cache_dir)


# The repository's root, not the current directory, is where conf/, runs/ and cache/ lie.
ROOT = Path(__file__).resolve().parents[2]
