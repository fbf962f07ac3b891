"""A limit on waiting for other processes and machines, which says what it waited for."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

from glam.errors import STOPPING
from glam.log import log
from glam.progress import stage

STOPPED = 128  # and the signal's number: the exit status
SECONDS_TO_HEAR = 5.0  # that the block has to end by itself after a signal
SECONDS = 600.0  # as NCCL has it; a scheduler starts the nodes of a job within a minute or two


@contextmanager
def limited(what: str, way_out: str, seconds: float | None = None) -> Generator[None]:
    """Ends the process, with a line, where the block takes longer than `seconds` (SECONDS; exit
    status 1) and where a signal asks the process to stop: whoever waits inside a library's C code
    hears neither. Before anything was begun that could be lost."""
    limit = SECONDS if seconds is None else seconds
    timer = threading.Timer(limit, _give_up, [f"waited {limit:g} s for {what}; {way_out}"])
    timer.daemon = True
    timer.start()
    try:
        with stage(f"waiting for {what}"), _stoppable():
            yield
    finally:
        timer.cancel()


@contextmanager
def _stoppable() -> Generator[None]:
    """Python runs its handlers of signals when C code returns, which may be never. The number of a
    signal is in this pipe at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    over = threading.Event()
    threading.Thread(target=_end_when_asked, args=(reading, over), daemon=True).start()
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(writing)  # ends the thread


def _end_when_asked(reading: int, over: threading.Event) -> None:
    with os.fdopen(reading, "rb", buffering=0) as numbers:
        while heard := numbers.read(1):
            if heard[0] in (*STOPPING, signal.SIGINT) and not over.wait(SECONDS_TO_HEAR):
                os._exit(STOPPED + heard[0])


def _give_up(words: str) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # one of each node, whatever else is silent
        with contextlib.redirect_stderr(sys.__stderr__):
            log.error(words)
    os._exit(1)
