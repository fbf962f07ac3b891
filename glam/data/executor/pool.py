"""Tasks in processes of this machine, a task at a time in each.

A process that is killed, as by the system when memory runs out, is replaced and its task done
again. (datatrove's executor for one machine was still waiting for such a task after four minutes:
it stands on Python's `multiprocessing.Pool`, which never does it again.)
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

from glam.data.executor.progress import heard_by
from glam.data.executor.stage import Work
from glam.errors import JobFailedError, first_line
from glam.machine.resources import num_cores
from glam.progress import Bar

_PRELOADED = ["glam.data.pipeline"]  # of which each worker is then a copy: it starts at once
_ATTEMPTS = 3  # of a task whose process is killed
_PATIENCE = 5.0  # seconds that a process has to end by itself
_ENDED = 128  # and the signal's number: the exit status


@dataclass(frozen=True)
class LocalExecutor:
    """As many workers as `workers`, or as there are cores. Where that is one the tasks are done in
    this process; else a single task too has one of its own, whose memory ends with it."""

    workers: int | None = None

    def run(self, key: str, tasks: Sequence[Work], sizes: Sequence[int], running: Bar) -> None:
        if (workers := self.workers or num_cores()) > 1:
            run_in_processes(key, tasks, sizes, running, min(workers, len(tasks)))
            return
        for task, size in zip(tasks, sizes, strict=True):
            done = running.done
            with heard_by(running.advance, is_worker=False):
                task()
            running.advance(done + size - running.done)


@dataclass
class _Worker:
    process: BaseProcess
    connection: "Connection[Any, Any]"
    task: int = -1  # in hand; -1: none
    told: int = 0  # of its size, so far

    def is_lost(self) -> bool:
        return not self.process.is_alive()


@dataclass
class _Board:
    """Which tasks wait, how often each was begun, and what was told of them."""

    key: str
    tasks: Sequence[Work]
    sizes: Sequence[int]
    running: Bar
    waiting: deque[int] = field(default_factory=deque[int])
    left: int = 0
    begun: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        self.waiting.extend(range(len(self.tasks)))
        self.left, self.begun = len(self.tasks), [0] * len(self.tasks)

    def give(self, worker: _Worker) -> None:
        """The next task to a worker without one, where one waits."""
        if self.waiting and worker.task < 0:
            worker.task, worker.told = self.waiting.popleft(), 0
            self.begun[worker.task] += 1
            worker.connection.send(self.tasks[worker.task])

    def take(self, worker: _Worker, message: Any) -> None:
        if isinstance(message, int):
            self._tell(worker, message)
        elif isinstance(message, BaseException):
            raise message
        else:
            self._tell(worker, self.sizes[worker.task] - worker.told)
            self.left -= 1
            worker.task = -1

    def lose(self, worker: _Worker) -> None:
        """The worker's process is gone: its task waits again. Raises JobFailedError where that was
        the last attempt."""
        if worker.task < 0:
            return
        self._tell(worker, -worker.told)
        if self.begun[worker.task] == _ATTEMPTS:
            raise JobFailedError(
                f"{self.key}: the process of task {worker.task} of {len(self.tasks)} ended "
                f"{_ATTEMPTS} times ({_how(worker.process)}); if memory ran out, set data.workers "
                f"to fewer"
            )
        self.waiting.appendleft(worker.task)

    def _tell(self, worker: _Worker, amount: int) -> None:
        worker.told += amount
        self.running.advance(amount)


def run_in_processes(
    key: str, tasks: Sequence[Work], sizes: Sequence[int], running: Bar, workers: int
) -> None:
    """Do all tasks, `workers` at once, each in a process of its own kind."""
    board = _Board(key, tasks, sizes, running)
    staff: list[_Worker] = []
    try:
        while board.left:
            for worker in staff:
                board.give(worker)
            while board.waiting and len(staff) < workers:
                staff.append(_hired())
                board.give(staff[-1])
            ready = set(wait([w.connection for w in staff] + [w.process.sentinel for w in staff]))
            for worker in list(staff):
                if worker.connection in ready or worker.process.sentinel in ready:
                    _listen(board, worker)
                if worker.is_lost():
                    staff.remove(worker)
                    board.lose(worker)
    finally:
        _dismiss(staff)


def _listen(board: _Board, worker: _Worker) -> None:
    """What the worker has said; of one that is gone, what it said before."""
    with contextlib.suppress(EOFError, ConnectionResetError, BrokenPipeError):
        while worker.connection.poll():
            board.take(worker, worker.connection.recv())


def _hired() -> _Worker:
    # A copy of this process (fork) would inherit locks that its threads hold.
    method = "spawn" if sys.platform == "win32" else "forkserver"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(_PRELOADED)
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=False)
    with _nameless_main():
        process.start()
    theirs.close()  # so that reading ends when the worker does
    return _Worker(process, ours)


@contextmanager
def _nameless_main() -> Generator[None]:
    """A worker imports the script that started its parent, and one that prepares text without
    asking `if __name__ == "__main__"` would do all of it again there. No task needs that script."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _dismiss(staff: list[_Worker]) -> None:
    for worker in staff:
        if worker.task >= 0:
            worker.process.terminate()
        worker.connection.close()  # one without a task ends by itself
    for worker in staff:
        worker.process.join(_PATIENCE)
        if worker.is_lost():
            continue
        worker.process.kill()
        worker.process.join()


def _how(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _work(connection: "Connection[Any, Any]") -> None:
    """A worker: task after task, until there is none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which tells us
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(_ENDED + number))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with heard_by(connection.send, is_worker=True):
        while True:
            try:
                task: Work = connection.recv()
                task()
                answer: Any = None
            except EOFError:
                return
            except Exception as error:
                answer = _picklable(error)
            connection.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(_ENDED + signal.SIGKILL)


def _picklable(error: Exception) -> Exception:
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {first_line(error)}")
