"""How a model is trained: optimizer, schedule, budget."""

from dataclasses import dataclass

from glam.config._checks import not_in_identity, positive, within


@dataclass(kw_only=True)
class OptimizerConfig:
    name: str
    learning_rate: float

    def __post_init__(self) -> None:
        positive("optimizer.", self, "learning_rate")


@dataclass(kw_only=True)
class AdamWConfig(OptimizerConfig):
    name: str = "adamw"
    learning_rate: float = 0.012
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0

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
    beta2: float = 0.99  # the cap of 1 - t ** -beta2_decay
    beta2_decay: float = 0.8
    clip_threshold: float = 1.0
    eps_factor: float = 1e-30  # added to the squared gradient
    eps_scale: float = 1e-3  # smallest parameter scale

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("optimizer.", self, "beta2_decay", "clip_threshold", "eps_factor", "eps_scale")
        within("optimizer.", self, 0, 0.9999999, "beta2")


@dataclass(kw_only=True)
class ScheduleConfig:
    name: str


@dataclass(kw_only=True)
class LinearScheduleConfig(ScheduleConfig):
    """Linear warm-up, then linear decay over the whole run."""

    name: str = "linear"
    warmup_fraction: float = 0.05
    final_fraction: float = 0.05  # of the peak learning rate

    def __post_init__(self) -> None:
        within("schedule.", self, 0, 1, "warmup_fraction", "final_fraction")


@dataclass(kw_only=True)
class PaperScheduleConfig(ScheduleConfig):
    """Constant for `hold_steps`, then proportional to 1 / sqrt(step) (paper section 5.1)."""

    name: str = "paper"
    hold_steps: int = 10_000

    def __post_init__(self) -> None:
        positive("schedule.", self, "hold_steps")


@dataclass(kw_only=True)
class TrainingConfig:
    tokens: int = 5_000_000  # rounded up to whole steps
    # In the place of tokens: as many as this machine trains on in so long, by task.calibrate.
    seconds: float | None = None
    batch_size: int = 8  # rows of sequence_length tokens
    sequence_length: int = 128
    max_skipped: int = 50  # steps in a row with NaN or Inf gradients before a run is diverged
    rematerialize: bool = False  # recompute each layer's activations in backward
    # Each weight is updated when its gradient is there, which is then let go: no set of gradients
    # in memory. For Adafactor. A step that meets NaN or Inf on the way is cut short, not undone.
    update_in_backward: bool = False
    log_every: int = not_in_identity(20)  # steps
    checkpoint_minutes: float = not_in_identity(1.0)

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
