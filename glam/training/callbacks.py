"""What happens between steps: log rows with evaluations, and the bar."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from lightning import Callback, LightningModule, Trainer

from glam.config import RunConfig
from glam.progress import Bar
from glam.tracking import Tracker
from glam.training.ledger import Ledger
from glam.training.metrics import Metrics
from glam.training.module import TrainingModule

# Loss in nats per token by domain, with "mean": measured on the model as it is.
Evaluate = Callable[[], dict[str, float]]


def evaluation_steps(points: int, num_steps: int) -> set[int]:
    """Evenly spread, the last step among them."""
    return {max(1, round(num_steps * k / points)) for k in range(1, points + 1)}


class Timekeeper(Callback):
    """The first of the callbacks: starts the ledger's clock and what it spends."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.ledger.start()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.ledger.stop()


class LogRows(Callback):
    """A row of metrics.csv every `log_every` steps and at each evaluation."""

    def __init__(
        self,
        config: RunConfig,
        ledger: Ledger,
        metrics: Metrics,
        tracker: Tracker,
        sources: Sequence[str],
        evaluate: Evaluate,
    ) -> None:
        self.config, self.ledger, self.metrics, self.tracker = config, ledger, metrics, tracker
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
        step, training = self.ledger.step, self.config.training
        evaluating = step in self._evaluation_steps
        assert isinstance(pl_module, TrainingModule)
        if evaluating or step % training.log_every == 0:
            pl_module.settle()
        last = step == training.num_steps or self.ledger.diverged
        if not (evaluating or last or step % training.log_every == 0):
            return
        row = self._training_row(pl_module.learning_rate(step - 1))
        if evaluating or last:
            with self.ledger.evaluating():
                row |= self._held_out() | self._load()
            if not last:  # the last window is the run's result
                self.ledger.averages.clear_load()
        self.metrics.write(row)
        self.tracker.log(row)

    def _training_row(self, learning_rate: float) -> dict[str, float]:
        ledger, averages = self.ledger, self.ledger.averages.take_row()
        row = {
            "step": ledger.step,
            "tokens": ledger.tokens,
            "train_seconds": ledger.clock.seconds,
            "joules": ledger.joules()["training"],
            "loss": averages.loss,
            "learning_rate": learning_rate,
            "tokens_per_second": ledger.take_speed(),
            "balance_loss": averages.balance_loss,
            "grad_norm": averages.grad_norm,
            "skipped": ledger.skipped,
        }
        by_source = zip(self.sources, averages.loss_by_source, strict=True)
        return row | {f"loss/{source}": loss for source, loss in by_source}

    def _held_out(self) -> dict[str, float]:
        return {f"held_out/{domain}": loss for domain, loss in self.evaluate().items()}

    def _load(self) -> dict[str, float]:
        row: dict[str, float] = {}
        for layer, load in self.ledger.averages.load(self.config.model).items():
            row |= {f"load/{layer}/{expert}": share for expert, share in enumerate(load.shares)}
            row[f"dropped/{layer}"] = load.dropped
        return row


class ProgressBar(Callback):
    """Feeds the bar a few times a second: at 25 ms a step, drawing each would be felt."""

    INTERVAL = 0.25  # seconds

    def __init__(self, ledger: Ledger, bar: Bar) -> None:
        self.ledger, self.bar = ledger, bar
        self._drawn, self._tokens = time.monotonic(), 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._drawn, self._tokens = time.monotonic(), self.ledger.tokens

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
        speed = (self.ledger.tokens - self._tokens) / (now - self._drawn)
        self._drawn, self._tokens = now, self.ledger.tokens
        steps = self.ledger.step - self.bar.done
        loss = outputs["loss"]
        # To read a number of an XLA device is to wait for its step.
        shown = {} if loss.device.type == "xla" else {"loss": loss.item()}
        self.bar.advance(steps, **shown, tokens_per_second=speed)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar.advance(self.ledger.step - self.bar.done)
