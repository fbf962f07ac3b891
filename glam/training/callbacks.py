"""What happens between steps: log rows with evaluations, and the bar."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from lightning import Callback, LightningModule, Trainer

from glam.config import RunConfig
from glam.model.compiled import is_compiled
from glam.progress import Bar
from glam.training.metrics import Metrics
from glam.training.module import TrainingModule
from glam.training.train_state import TrainState

# Loss in nats per token by domain, with "mean": measured on the model as it is.
Evaluate = Callable[[], dict[str, float]]


def evaluation_steps(points: int, num_steps: int) -> set[int]:
    """Evenly spread, the last step among them."""
    return {max(1, round(num_steps * k / points)) for k in range(1, points + 1)}


class Tracker(Protocol):
    """Where rows of metrics.csv go besides the file."""

    def log(self, row: Mapping[str, float], rollbacks: int = 0) -> None:
        """Take a row of a run that has gone back so many times before it."""
        ...

    def go_back(self, tokens: int, rollbacks: Sequence[Mapping[str, Any]]) -> None:
        """The run goes back to `tokens`; the last of its rollbacks says why."""
        ...


class TrainingClock(Callback):
    """Starts and stops the clock and the energy counter. The first of the callbacks."""

    def __init__(self, train_state: TrainState) -> None:
        self.train_state = train_state

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.train_state.start()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.train_state.stop()


class MetricsLogger(Callback):
    """A row of metrics.csv every `log_every` steps and at each evaluation."""

    def __init__(
        self,
        config: RunConfig,
        train_state: TrainState,
        metrics: Metrics,
        tracker: Tracker | None,
        sources: Sequence[str],
        evaluate: Evaluate,
    ) -> None:
        self.config, self.train_state, self.metrics, self.tracker = (
            config,
            train_state,
            metrics,
            tracker,
        )
        self.sources, self.evaluate = sources, evaluate
        points, num_steps = config.evaluation.points, config.training.num_steps
        self._evaluation_steps = evaluation_steps(points, num_steps)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        step, training = self.train_state.step, self.config.training
        evaluating = step in self._evaluation_steps or step == training.num_steps
        assert isinstance(pl_module, TrainingModule)
        if evaluating or step % training.log_every == 0:
            pl_module.sync_counters()
        last = step == training.num_steps or self.train_state.diverged
        due = evaluating or last or step % training.log_every == 0
        if not due or self.train_state.watch.goes_back:  # such a row would be cut back
            return
        row = self._training_row(pl_module.learning_rate(step - 1))
        if evaluating or last:
            with self.train_state.evaluating():
                row |= self._held_out() | self._load()
            if not last:  # the last window is the run's result
                self.train_state.means.clear_load()
        if last and not self.train_state.diverged and not math.isfinite(row["held_out/mean"]):
            # The last update spoiled the weights, and no further step would find it.
            self.train_state.watch.raise_alarm("held-out loss was NaN or Inf after the last step")
            pl_module.stop_if_due()
            if self.train_state.watch.goes_back:
                return
        self.metrics.write(row)
        if self.tracker is not None:
            self.tracker.log(row, len(self.train_state.watch.rollbacks))

    def _training_row(self, learning_rate: float) -> dict[str, float]:
        train_state, means = self.train_state, self.train_state.means.take_row()
        row = {
            "step": train_state.step,
            "tokens": train_state.tokens,
            "train_seconds": train_state.clock.seconds,
            "joules": train_state.joules()["training"],
            "loss": means.loss,
            "learning_rate": learning_rate,
            "tokens_per_second": train_state.take_speed(),
            "balance_loss": means.balance_loss,
            "grad_norm": means.grad_norm,
            "skipped": train_state.skipped,
        }
        by_source = zip(self.sources, means.loss_by_source, strict=True)
        return row | {f"loss/{source}": loss for source, loss in by_source}

    def _held_out(self) -> dict[str, float]:
        return {f"held_out/{domain}": loss for domain, loss in self.evaluate().items()}

    def _load(self) -> dict[str, float]:
        row: dict[str, float] = {}
        for layer, load in self.train_state.means.load(self.config.model).items():
            row |= {f"load/{layer}/{expert}": share for expert, share in enumerate(load.shares)}
            row[f"dropped/{layer}"] = load.dropped
        return row


class ProgressBar(Callback):
    """Feeds the bar a few times a second: at 25 ms a step, drawing each would be felt. Its speed is
    of training alone, as in metrics.csv: evaluations and checkpoints stop the clock."""

    INTERVAL = 0.25  # seconds

    def __init__(
        self,
        train_state: TrainState,
        bar: Bar,
        utilization: Callable[[float], float | None] = lambda tokens_per_second: None,
    ) -> None:
        self.train_state, self.bar, self.utilization = train_state, bar, utilization
        self._drawn, self._tokens, self._seconds = time.monotonic(), 0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._drawn = time.monotonic()
        self._tokens, self._seconds = self.train_state.tokens, self.train_state.clock.seconds

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        now = time.monotonic()
        if now - self._drawn < self.INTERVAL:
            return
        seconds = self.train_state.clock.seconds
        speed = (self.train_state.tokens - self._tokens) / (seconds - self._seconds)
        self._drawn, self._tokens, self._seconds = now, self.train_state.tokens, seconds
        steps = self.train_state.step - self.bar.done
        loss = outputs["loss"]
        # To read a number of an XLA device is to wait for its step.
        shown = {} if is_compiled(loss.device) else {"loss": loss.item()}
        self.bar.advance(steps, **shown, **self._speed(speed))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends with the speed of the whole run, which its summary states."""
        steps, seconds = self.train_state.step - self.bar.done, self.train_state.clock.seconds
        speed = self._speed(self.train_state.tokens / seconds) if seconds else {}
        self.bar.advance(steps, **speed)

    def _speed(self, tokens_per_second: float) -> dict[str, float]:
        mfu = self.utilization(tokens_per_second)
        shown = {"tokens_per_second": tokens_per_second}
        return shown if mfu is None else {**shown, "mfu": mfu}
