"""When training has gone wrong, and where it goes back to.

GLaM's authors did it by hand (section 5.1): on a large jump of the loss, NaN or Inf, they restarted
from an earlier healthy checkpoint with other batches. Those of PaLM left out the batches around the
jump (arXiv 2204.02311, section 5.1), as is done here. A loss that is a spike, or no number, raises
an *alarm*. The run goes back to the newest checkpoint that a full window of steps without an alarm
had followed, and goes on with the batches after the one that raised it. All of it follows from the
losses alone, so a run that was killed and resumed goes back as one that was not.
"""

import math
from bisect import insort
from collections import deque
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from glam.config import TrainingConfig

SIGMA = 1.4826  # standard deviation of normal noise over its median absolute deviation
LEAST_RISE = 0.2  # [nats] above the median: less is no spike, however even the losses were
FIRST_RISE = 1.5  # until the window is full, a spike is a loss so many times the run's first one


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """One return to a healthy checkpoint."""

    step: int  # after which the alarm was raised
    reason: str
    loss: float | None  # nats per token; None: NaN or Inf
    limit: float | None  # that it passed; None: not judged by one
    restored_step: int  # 0: the beginning
    first_batch: int  # of those left out, by their place in the stream of batches
    last_batch: int  # of those left out
    lost_seconds: float  # of training, since the run had last stood at `restored_step`


def in_words(rollback: Rollback) -> str:
    """What happened, and what is done."""
    loss, limit = rollback.loss, rollback.limit
    figures = "" if loss is None or limit is None else f" ({loss:.3f}, the limit was {limit:.3f})"
    place = f"step {rollback.restored_step:,}" if rollback.restored_step else "the beginning"
    return (
        f"{rollback.reason} at step {rollback.step:,}{figures}: back to {place}, without batches "
        f"{rollback.first_batch:,} to {rollback.last_batch:,}"
    )


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A step at which training has gone wrong. `Rollback` describes the fields."""

    step: int
    reason: str
    loss: float | None
    limit: float | None


class Usual(NamedTuple):
    """Losses as they are when nothing is wrong."""

    middle: float
    limit: float  # a loss above it is a spike


class LossWatch:
    """Judges the loss of every step, and knows the checkpoints that a run can go back to."""

    def __init__(self, training: TrainingConfig, rollbacks: tuple[Rollback, ...] = ()) -> None:
        self.training, self.rollbacks = training, rollbacks
        self.step = 0  # steps whose loss was judged
        self.alarm: Alarm | None = None
        self._losses = deque[float](maxlen=training.spike_window)
        self._ordered = list[float]()  # the same, sorted
        # Steps of the checkpoints to go back to, with the seconds of training when the run last
        # stood there. The beginning needs no checkpoint: it follows from the seed.
        self.anchors: dict[int, float] = {0: 0.0}

    @property
    def shift(self) -> int:
        """How far the run's batches are ahead of its steps in the stream."""
        return self._shift_at(self.step)

    def _shift_at(self, step: int) -> int:
        """`shift` after `step` steps: a return to a later one came after those batches."""
        before = [one for one in self.rollbacks if one.restored_step <= step]
        return before[-1].last_batch + 1 - before[-1].restored_step if before else 0

    @property
    def goes_back(self) -> bool:
        """Whether training stops here to go back."""
        return self.alarm is not None and self.why_given_up is None

    @property
    def why_given_up(self) -> str | None:
        """What went wrong after the last return that is allowed; None where nothing did."""
        number = len(self.rollbacks)
        if self.alarm is None or number < self.training.max_rollbacks:
            return None
        return f"{self.alarm.reason} at step {self.alarm.step:,}, after {number} rollbacks"

    def see(self, loss: float) -> None:
        """Judge the loss of the next step."""
        if self.alarm is not None:
            return
        self.step += 1
        if not math.isfinite(loss):
            self.raise_alarm("loss was NaN or Inf")
        elif (usual := self._usual_if_near(loss)) and loss > usual.limit:
            self.alarm = Alarm(step=self.step, reason="loss spike", loss=loss, limit=usual.limit)
        else:
            if len(self._losses) == self.training.spike_window:
                self._ordered.remove(self._losses[0])
            self._losses.append(loss)
            insort(self._ordered, loss)

    def raise_alarm(self, reason: str) -> None:
        """Raise the alarm at the last step for a reason that is no number."""
        self.alarm = Alarm(step=self.step, reason=reason, loss=None, limit=None)

    def _usual_if_near(self, loss: float) -> Usual | None:
        """`usual`, unless the loss is clearly below its limit: nearly always, at no cost."""
        full = len(self._ordered) == self.training.spike_window
        below = full and loss <= _middle(self._ordered) + LEAST_RISE
        return None if below else self.usual()

    def usual(self) -> Usual | None:
        """What the next loss is judged by; None where nothing finite is a spike."""
        threshold, losses = self.training.spike_threshold, self._losses
        if threshold is None or not losses:
            return None
        if len(losses) < self.training.spike_window:
            return Usual(losses[0], FIRST_RISE * losses[0])
        median = _middle(self._ordered)
        sigma = SIGMA * _middle(sorted(abs(loss - median) for loss in losses))
        return Usual(median, median + max(threshold * sigma, LEAST_RISE))

    def is_anchor(self, step: int) -> bool:
        """Whether a checkpoint to go back to is due after `step` steps."""
        within_run = 0 < step < self.training.num_steps
        return within_run and step % self.training.rollback_steps == 0

    def healthy(self, among: Collection[int] | None = None) -> int:
        """Step of the newest checkpoint that a full window without an alarm follows: now, or when
        the run went back to it; 0 for the beginning. `among`: only of these steps."""
        seen = self.step - (self.alarm is not None)
        window = self.training.spike_window
        known = self.rollbacks[-1].restored_step if self.rollbacks else 0
        found = {step for step in self.anchors if step == known or step + window <= seen}
        return max(found if among is None else found.intersection(among), default=0)

    def needed(self, there: Collection[int]) -> set[int]:
        """Which of the checkpoints that are `there` the run may still go back to."""
        if self.step >= self.training.num_steps or self.why_given_up is not None:
            return set()
        healthy = self.healthy(there)
        return {step for step in there if step in self.anchors and step >= healthy}

    def rollback(self, restored_step: int, seconds: float) -> Rollback:
        """The return to `restored_step`, after so many seconds of training in all."""
        assert self.alarm is not None
        stood = max(step for step in self.anchors if step <= restored_step)
        return Rollback(
            **asdict(self.alarm),
            restored_step=restored_step,
            first_batch=restored_step + self._shift_at(restored_step),
            last_batch=self.alarm.step - 1 + self.shift,
            lost_seconds=seconds - self.anchors[stood],
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "losses": list(self._losses),
            "anchors": dict(self.anchors),
            "rollbacks": [asdict(rollback) for rollback in self.rollbacks],
            "alarm": None if self.alarm is None else asdict(self.alarm),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what a checkpoint holds; rollbacks that came after it stay."""
        self.step, self.anchors = state["step"], dict(state["anchors"])
        self._losses.extend(state["losses"])
        self._ordered = sorted(self._losses)
        self.rollbacks = self.rollbacks or tuple(Rollback(**one) for one in state["rollbacks"])
        self.alarm = None if state["alarm"] is None else Alarm(**state["alarm"])


def _middle(ordered: list[float]) -> float:
    """The median of sorted numbers."""
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
