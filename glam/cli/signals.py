"""Signals by which schedulers and closed terminals ask a process to stop, answered as Ctrl-C is."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from glam.errors import STOPPING, Stopped


@contextmanager
def stoppable() -> Generator[None]:
    """Until the end of the block these signals raise Stopped, once: those that follow are often
    the same request, sent to the process and to its group, and must not cut short what answers
    the first. A signal that is ignored, as `nohup` ignores SIGHUP, stays so."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    if threading.current_thread() is not threading.main_thread():
        before.clear()
    ours = [number for number, handler in before.items() if handler == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _raise_once)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


def _raise_once(number: int, frame: FrameType | None) -> None:
    for other in STOPPING:
        if signal.getsignal(other) is _raise_once:
            signal.signal(other, _pass)
    raise Stopped(number=number)


def _pass(number: int, frame: FrameType | None) -> None:
    """Not SIG_IGN, which processes that are started meanwhile would inherit."""
