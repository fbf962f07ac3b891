"""When a run saves itself: every few minutes, at its end, and when it is asked to stop."""

import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

from glam.checkpoints import step_folder, step_folders, step_of
from glam.errors import first_line
from glam.peers import ALONE, Peers
from glam.runs import RunFolder
from glam.training.checkpoint import SAVE_ERRORS, prune
from glam.training.ledger import Ledger
from glam.training.metrics import Metrics


class StopRequest:
    """Ctrl-C or SIGTERM asks for a stop after the current step; a second one stops at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def listen(self) -> None:
        """Lightning puts the former handlers back when its fit is over."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Checkpoints(Callback):
    """The last of the callbacks: what it saves, the others have seen."""

    def __init__(
        self,
        run: RunFolder,
        minutes: float,
        ledger: Ledger,
        metrics: Metrics,
        finish: Callable[[], None],
        peers: Peers = ALONE,
    ) -> None:
        """`finish` returns when a checkpoint that is being written stands."""
        self.run, self.minutes, self.ledger, self.metrics = run, minutes, ledger, metrics
        self.finish, self.peers = finish, peers
        self.request = StopRequest()
        self.saved_step = 0  # where a run cut off now would go on
        self._tried, self._tried_step = time.monotonic(), 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_step = self._tried_step = self.ledger.step
        self.request.listen()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        due = time.monotonic() - self._tried >= 60 * self.minutes
        asked, due = self.peers.largest(self.request.signal or 0, int(due))
        if asked:
            self.request.signal = signal.Signals(asked)
            trainer.should_stop = True
        elif due:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._tried_step != self.ledger.step:
            self._save(trainer)
        self.finish()
        if folders := step_folders(self.run.checkpoints):
            self.saved_step = step_of(folders[0])

    def _save(self, trainer: Trainer) -> None:
        """A checkpoint that cannot be written costs a line, not the run."""
        folder = step_folder(self.run.checkpoints, self.ledger.step)
        try:
            with self.ledger.clock.paused():
                self.metrics.sync()
                trainer.save_checkpoint(folder)
                if self.peers.leads:
                    prune(self.run.checkpoints)
            self.saved_step = self.ledger.step
        except SAVE_ERRORS as error:
            line = first_line(error)
            print(f"{folder.name} could not be saved, the last one stays: {line}", file=sys.stderr)
        self._tried, self._tried_step = time.monotonic(), self.ledger.step
