"""How a model is trained: optimizer, schedule, budget."""

from dataclasses import dataclass

from glam.config._checks import LARGEST_SIZE, divisors, not_in_identity, positive, within
from glam.errors import UserError

SECONDS = (1e-3, 1e8)  # of a budget; at most 1e15 tokens at ten million a second


@dataclass(kw_only=True)
class TrainingConfig:
    """The budget of a run, its batches, and what is kept of it."""

    tokens: int = 5_000_000  # [tokens] to train on, rounded up to whole steps
    # [s] instead of tokens: as many tokens as this machine trains on in that time, which
    # task=plan task.calibrate=true measures first
    seconds: float | None = None
    # tokens for each active parameter, the embedding's left out, instead of tokens: 20 is that of
    # compute-optimal dense models (Hoffmann et al. 2022, arXiv 2203.15556). As many for a sparse
    # model as for its dense twin
    tokens_per_parameter: float | None = not_in_identity(None)
    batch_size: int = 8  # [rows] of sequence_length tokens in a step
    sequence_length: int = 128  # [tokens] of a row, the longest context
    # [steps] in a row with NaN or Inf gradients, which are skipped, before a run has diverged
    max_skipped: int = 50
    # [steps] whose losses a loss is judged by; a checkpoint that so many steps without a spike
    # follow is healthy
    spike_window: int = 128
    # a loss is a spike where it lies above the median of the window by so many standard deviations
    # (estimated as 1.4826 median absolute deviations); null: only NaN and Inf are noticed
    spike_threshold: float | None = 10.0
    # returns to a healthy checkpoint, after which a run has diverged
    max_rollbacks: int = 10
    # [steps] between checkpoints to go back to; null: a sixteenth of the run, but at least
    # spike_window and at most 1,000
    rollback_every: int | None = None
    rematerialize: bool = False  # recompute each layer's activations in the backward pass
    # update each weight as soon as its gradient is computed, so that no set of gradients is in
    # memory; for an optimizer that needs no others' gradients (adafactor). A step that meets NaN
    # or Inf is cut short, not undone
    update_in_backward: bool = False
    # experts multiply in FP8 (e4m3, a scale for each row): for GPUs from Hopper on. Gradients of
    # weights stay in the precision of the activations
    float8_experts: bool = False
    # parts of a step's rows that go through the model one after another, whose gradients are added:
    # activations of one part alone are in memory. Each part has its own balance loss
    accumulate: int = 1
    log_every: int = not_in_identity(20)  # [steps] between rows of metrics.csv
    checkpoint_minutes: float = not_in_identity(1.0)  # [min] between checkpoints
    keep_checkpoints: int = not_in_identity(2)  # newest checkpoints that are kept
    # [steps] at whose multiples a checkpoint is saved and kept for good; null: at none
    milestone_steps: int | None = not_in_identity(None)

    def __post_init__(self) -> None:
        within("training.", self, 1, 10**15, "tokens")
        within("training.", self, 1, LARGEST_SIZE, "batch_size", "sequence_length")
        positive("training.", self, "max_skipped", "accumulate")
        self._check_accumulation()
        if self.seconds is not None:
            within("training.", self, *SECONDS, "seconds")
        positive("training.", self, "tokens_per_parameter")
        if self.seconds is not None and self.tokens_per_parameter is not None:
            raise UserError(
                f"training.seconds={self.seconds:g} and training.tokens_per_parameter="
                f"{self.tokens_per_parameter:g} are two budgets; leave one out"
            )
        positive("training.", self, "log_every", "checkpoint_minutes", "keep_checkpoints")
        positive("training.", self, "milestone_steps")
        positive("training.", self, "spike_threshold", "rollback_every")
        within("training.", self, 2, 10_000, "spike_window")
        within("training.", self, 0, 10_000, "max_rollbacks")

    def _check_accumulation(self) -> None:
        if self.batch_size % self.accumulate:
            near = [n for n in divisors(self.batch_size) if n <= self.accumulate]
            raise UserError(
                f"training.accumulate={self.accumulate} does not divide "
                f"training.batch_size={self.batch_size}; try {near[-1]}"
            )
        if self.accumulate > 1 and self.update_in_backward:
            raise UserError(
                f"training.accumulate={self.accumulate} adds gradients, of which "
                f"training.update_in_backward=true keeps none; leave one of them out"
            )

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.sequence_length

    @property
    def num_steps(self) -> int:
        return -(-self.tokens // self.tokens_per_step)

    @property
    def rollback_steps(self) -> int:
        """`rollback_every`, or the steps that are taken where it is null."""
        if self.rollback_every is not None:
            return self.rollback_every
        return max(self.spike_window, min(self.num_steps // 16, 1_000))

    @property
    def rollback_checkpoints(self) -> int:
        """How many checkpoints are kept at once, at most, to go back to: a healthy one, and those
        that a full window has not followed yet."""
        in_all = (self.num_steps - 1) // self.rollback_steps
        return min(in_all, 1 + -(-self.spike_window // self.rollback_steps))
