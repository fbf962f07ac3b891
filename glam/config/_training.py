"""How a model is trained: optimizer, schedule, budget."""

from dataclasses import dataclass

from glam.config._checks import not_in_identity, positive, within


@dataclass(kw_only=True)
class OptimizerConfig:
    """What turns gradients into updates."""

    name: str  # which optimizer: adamw | adafactor, a file of conf/optimizer
    learning_rate: float  # peak of the schedule

    def __post_init__(self) -> None:
        positive("optimizer.", self, "learning_rate")


@dataclass(kw_only=True)
class AdamWConfig(OptimizerConfig):
    """AdamW (Loshchilov and Hutter 2019), with clipping by the norm of all gradients."""

    name: str = "adamw"
    learning_rate: float = 0.012
    beta1: float = 0.9  # decay of the first moment, per step
    beta2: float = 0.95  # decay of the second moment, per step
    eps: float = 1e-8  # added to the root of the second moment
    weight_decay: float = 0.1  # decoupled, times the learning rate; of matrices alone
    clip_norm: float = 1.0  # largest norm of all gradients together

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("optimizer.", self, "eps", "clip_norm")
        within("optimizer.", self, 0, 0.9999999, "beta1", "beta2")
        within("optimizer.", self, 0, 1e6, "weight_decay")


@dataclass(kw_only=True)
class AdafactorConfig(OptimizerConfig):
    """The paper's Adafactor: no first moment, factored second moment, update clipping, steps
    relative to the parameter's scale (section 5.1)."""

    name: str = "adafactor"
    learning_rate: float = 0.01
    beta2: float = 0.99  # largest decay of the second moment, which is 1 - step ** -beta2_decay
    beta2_decay: float = 0.8  # exponent of the second moment's decay
    clip_threshold: float = 1.0  # largest root mean square of a parameter's update
    eps_factor: float = 1e-30  # added to the squared gradient
    eps_scale: float = 1e-3  # least scale of a parameter, which its update is relative to

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("optimizer.", self, "beta2_decay", "clip_threshold", "eps_factor", "eps_scale")
        within("optimizer.", self, 0, 0.9999999, "beta2")


@dataclass(kw_only=True)
class ScheduleConfig:
    """The learning rate over the steps of a run."""

    name: str  # which schedule: linear | paper, a file of conf/schedule


@dataclass(kw_only=True)
class LinearScheduleConfig(ScheduleConfig):
    """Linear warm-up, then linear decay over the whole run."""

    name: str = "linear"
    warmup_fraction: float = 0.05  # [share] of the steps
    final_fraction: float = 0.05  # [share] of the peak learning rate, at the last step

    def __post_init__(self) -> None:
        within("schedule.", self, 0, 1, "warmup_fraction", "final_fraction")


@dataclass(kw_only=True)
class PaperScheduleConfig(ScheduleConfig):
    """Constant for `hold_steps`, then proportional to 1 / sqrt(step) (paper section 5.1)."""

    name: str = "paper"
    hold_steps: int = 10_000  # [steps] at the peak learning rate

    def __post_init__(self) -> None:
        positive("schedule.", self, "hold_steps")


@dataclass(kw_only=True)
class TrainingConfig:
    """The budget of a run, its batches, and what is kept of it."""

    tokens: int = 5_000_000  # [tokens] to train on, rounded up to whole steps
    # [s] instead of tokens: as many tokens as this machine trains on in that time, which
    # task=plan task.calibrate=true measures first
    seconds: float | None = None
    batch_size: int = 8  # [rows] of sequence_length tokens in a step
    sequence_length: int = 128  # [tokens] of a row, the longest context
    # [steps] in a row with NaN or Inf gradients, which are skipped, before a run has diverged
    max_skipped: int = 50
    rematerialize: bool = False  # recompute each layer's activations in the backward pass
    # update each weight as soon as its gradient is computed, so that no set of gradients is in
    # memory; for optimizer=adafactor. A step that meets NaN or Inf is cut short, not undone
    update_in_backward: bool = False
    log_every: int = not_in_identity(20)  # [steps] between rows of metrics.csv
    checkpoint_minutes: float = not_in_identity(1.0)  # [min] between checkpoints

    def __post_init__(self) -> None:
        within("training.", self, 1, 10**15, "tokens")
        positive("training.", self, "batch_size", "sequence_length", "max_skipped", "seconds")
        positive("training.", self, "log_every", "checkpoint_minutes")

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.sequence_length

    @property
    def num_steps(self) -> int:
        return -(-self.tokens // self.tokens_per_step)
