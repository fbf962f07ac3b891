"""A job of a grid ends with the grid, also when the grid was killed and could say nothing."""

import os
import signal
import threading

PARENT_PIPE = "GLAM_LEASH"


def watch_parent() -> None:
    """Where a grid started this process: when the pipe on stdin breaks, the grid is gone, and this
    process is told to stop as by Ctrl-C, so that it saves a checkpoint first."""
    if os.environ.get(PARENT_PIPE):
        # A grid in a shell's background hands down a SIGINT that is ignored.
        # Ray's processes hand down one that is blocked.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        # What a cluster tells every process of a job; the one that holds the leash passes it on.
        for name in ("SIGUSR1", "SIGUSR2"):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        # A copy: what stdin is may change.
        threading.Thread(target=_wait_for_the_end, args=(os.dup(0),), daemon=True).start()


def _wait_for_the_end(pipe: int) -> None:
    while os.read(pipe, 1024):  # past sys.stdin, whose lock would hold up the interpreter's end
        pass
    os.kill(os.getpid(), signal.SIGINT)
