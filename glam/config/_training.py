"""How a model is trained: optimizer, schedule, budget."""

from dataclasses import dataclass

from glam.config._checks import LARGEST_SIZE, not_in_identity, positive, within


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
    # memory; for an optimizer that needs no others' gradients (adafactor). A step that meets NaN
    # or Inf is cut short, not undone
    update_in_backward: bool = False
    log_every: int = not_in_identity(20)  # [steps] between rows of metrics.csv
    checkpoint_minutes: float = not_in_identity(1.0)  # [min] between checkpoints
    keep_checkpoints: int = not_in_identity(2)  # newest checkpoints that are kept
    # [steps] at whose multiples a checkpoint is saved and kept for good; null: at none
    milestone_steps: int | None = not_in_identity(None)

    def __post_init__(self) -> None:
        within("training.", self, 1, 10**15, "tokens")
        within("training.", self, 1, LARGEST_SIZE, "batch_size", "sequence_length")
        positive("training.", self, "max_skipped", "seconds")
        positive("training.", self, "log_every", "checkpoint_minutes", "keep_checkpoints")
        positive("training.", self, "milestone_steps")

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.sequence_length

    @property
    def num_steps(self) -> int:
        return -(-self.tokens // self.tokens_per_step)
