"""When a run saves a checkpoint: every few minutes, at its end, and when it is asked to stop."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

from glam.config import TrainingConfig
from glam.errors import STOPPING, first_line
from glam.log import log
from glam.machine.processes import SINGLE, Processes
from glam.runs.checkpoints import step_folder, step_folders, step_of
from glam.runs.folder import RunFolder
from glam.training.checkpoint import (
    SAVE_ERRORS,
    prune,
    remove_after,
    remove_partial,
    remove_parts,
)
from glam.training.metrics import Metrics
from glam.training.train_state import TrainState


class StopRequest:
    """A stop after the current step, asked for by Ctrl-C or another signal (STOPPING). A second
    Ctrl-C stops at once. A second of the others changes nothing: a scheduler sends one to the
    process and one to whatever started it, which passes it on."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Handle them, until `leave`. Those of STOPPING that are ignored stay so: SIGHUP under
        `nohup`, and in a grid's jobs what Slurm sends to every process."""
        if threading.current_thread() is threading.main_thread():
            asked_by = [s for s in STOPPING if signal.getsignal(s) != signal.SIG_IGN]
            for number in (signal.SIGINT, *asked_by):
                self._before[number] = signal.signal(number, self._note)

    def leave(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Checkpoints(Callback):
    """Saves checkpoints. The last of the callbacks, so that the others have seen the step."""

    def __init__(
        self,
        run: RunFolder,
        training: TrainingConfig,
        train_state: TrainState,
        metrics: Metrics,
        finish: Callable[[], None],
        processes: Processes = SINGLE,
    ) -> None:
        """`finish` returns when the checkpoint that is being written is complete."""
        self.run, self.training, self.train_state = run, training, train_state
        self.metrics, self.finish, self.processes = metrics, finish, processes
        self.request = StopRequest()
        self.saved_step = 0  # from which a run cut off now would resume
        self._tried, self._tried_step = time.monotonic(), 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_step = self._tried_step = self.train_state.step
        self.request.listen()
        if self.processes.is_main and self.saved_step:
            remove_partial(self.run.checkpoints, up_to=self.saved_step)
        elif self.processes.is_main:
            remove_parts(self.run.checkpoints)  # damaged ones stay until there is another

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        due = time.monotonic() - self._tried >= 60 * self.training.checkpoint_minutes
        asked, due = self.processes.largest(self.request.signal or 0, int(due))
        if asked:
            self.request.signal = signal.Signals(asked)
            trainer.should_stop = True
        elif due or self._is_milestone(self.train_state.step):
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._tried_step != self.train_state.step:
            self._save(trainer)
        self.finish()
        self._tidy(self.train_state.step)
        whole = [step_of(folder) for folder in step_folders(self.run.checkpoints)]
        self.saved_step = max((s for s in whole if s <= self.train_state.step), default=0)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.finish()

    def _is_milestone(self, step: int) -> bool:
        every = self.training.milestone_steps
        return every is not None and step % every == 0

    def _save(self, trainer: Trainer) -> None:
        """Save. A checkpoint that cannot be written is warned of; the run goes on."""
        folder = step_folder(self.run.checkpoints, self.train_state.step)
        try:
            with self.train_state.clock.paused():
                self.finish()
                self._tidy(self._tried_step)
                self.metrics.sync()
                trainer.save_checkpoint(folder)
                self._tidy(self.train_state.step)  # where it is whole already
            self.saved_step = self.train_state.step
        except SAVE_ERRORS as error:
            line = first_line(error)
            log.warning(f"{folder.name} could not be saved, the last one stays: {line}")
        self._tried, self._tried_step = time.monotonic(), self.train_state.step

    def _tidy(self, step: int) -> None:
        """Once the checkpoint of `step` is whole, remove those after it, which are damaged, and old
        ones."""
        checkpoints = self.run.checkpoints
        if not self.processes.is_main or not step_folder(checkpoints, step).exists():
            return
        steps = {step_of(folder) for folder in step_folders(checkpoints)}
        kept = {at for at in steps if self._is_milestone(at)}
        try:
            remove_after(checkpoints, step)
            prune(checkpoints, keep_last=self.training.keep_checkpoints, protected=kept)
        except OSError as error:
            log.warning(f"an old checkpoint could not be removed: {first_line(error)}")
