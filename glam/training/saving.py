"""When a run saves a checkpoint: every few minutes, at the steps that it may go back to, at its
end, and when it is asked to stop."""

import errno
import os
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
from glam.model.saved_tensors import SAVE_ERRORS
from glam.runs.checkpoints import step_folder, step_folders, step_of
from glam.runs.folder import RunFolder
from glam.training.checkpoint import (
    prune,
    remove_after,
    remove_partial,
    remove_parts,
)
from glam.training.metrics import Metrics
from glam.training.module import TrainingModule
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
        *,
        has_gone_back: bool = False,
    ) -> None:
        """`finish` returns when the checkpoint that is being written is complete. A run that has
        gone back saves after its first step, so that a resume need not go back again."""
        self.run, self.training, self.train_state = run, training, train_state
        self.metrics, self.finish, self.processes = metrics, finish, processes
        self.request = StopRequest()
        self.saved_step = 0  # from which a run cut off now would resume
        self._tried, self._tried_step = time.monotonic(), 0
        self._has_gone_back = has_gone_back

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_step = self._tried_step = self.train_state.step
        self.request.listen()
        # What lies after the checkpoint that was just loaded is damaged, or was gone back from. A
        # run cut off before it is removed resumes from it, and goes back as it did before.
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
        minutes = (time.monotonic() - self._tried) / 60
        due = self._has_gone_back or minutes >= self.training.checkpoint_minutes
        asked, due = self.processes.largest(self.request.signal or 0, int(due))
        if asked:
            self.request.signal = signal.Signals(asked)
            trainer.should_stop = True
        elif due or self._is_due_at(self.train_state.step):
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._tried_step != self.train_state.step:
            self._save(trainer)
        with self.train_state.saving():
            self.finish()
            self._tidy(self.train_state.step)
        self.processes.largest(0)  # none looks for checkpoints before the main one has completed it
        whole = [step_of(folder) for folder in step_folders(self.run.checkpoints)]
        self.saved_step = max((s for s in whole if s <= self.train_state.step), default=0)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.finish()

    def _is_due_at(self, step: int) -> bool:
        return self._is_milestone(step) or self.train_state.watch.is_anchor(step)

    def _is_milestone(self, step: int) -> bool:
        every = self.training.milestone_steps
        return every is not None and step % every == 0

    def _save(self, trainer: Trainer) -> None:
        """Save. A checkpoint that cannot be written is warned of; the run goes on. Nothing is saved
        of a run that goes back."""
        step, watch = self.train_state.step, self.train_state.watch
        assert isinstance(trainer.lightning_module, TrainingModule)
        trainer.lightning_module.sync_counters()
        if watch.goes_back:
            return
        if watch.is_anchor(step):
            watch.anchors[step] = self.train_state.clock.seconds
        folder = step_folder(self.run.checkpoints, step)
        try:
            with self.train_state.saving():
                self.finish()
                self._tidy(self._tried_step)
                self._sync_metrics()
                trainer.save_checkpoint(folder)
                self._tidy(step)  # where it is whole already
            self.saved_step = step
        except SAVE_ERRORS as error:
            watch.anchors.pop(step, None)
            if self.processes.is_main:
                line = first_line(error)
                log.warning(f"{folder.name} could not be saved, the last one stays: {line}")
        self._tried, self._tried_step, self._has_gone_back = time.monotonic(), step, False

    def _sync_metrics(self) -> None:
        """Raises OSError in all processes where the main one cannot: the others would wait for it
        in the checkpoint, and would count one to go back to that is not there."""
        failure = 0
        try:
            self.metrics.sync()
        except OSError as error:
            failure = error.errno or errno.EIO
        (failure,) = self.processes.largest(failure)
        if failure:
            raise OSError(failure, os.strerror(failure))

    def _tidy(self, step: int) -> None:
        """Once the checkpoint of `step` is whole, remove those after it, which are damaged, and old
        ones."""
        checkpoints = self.run.checkpoints
        if not self.processes.is_main or not step_folder(checkpoints, step).exists():
            return
        steps = {step_of(folder) for folder in step_folders(checkpoints)}
        kept = {at for at in steps if self._is_milestone(at)} | self.train_state.watch.needed(steps)
        try:
            remove_after(checkpoints, step)
            prune(checkpoints, keep_last=self.training.keep_checkpoints, protected=kept)
        except OSError as error:
            log.warning(f"an old checkpoint could not be removed: {first_line(error)}")
