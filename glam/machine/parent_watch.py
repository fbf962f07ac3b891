"""Ends a job with the grid or launcher that started it, also when that was killed without warning.

The parent holds the write end of a pipe whose read end is the job's stdin. The system closes it
when the parent ends, however it ends."""

import os
import signal
import threading

PARENT_PIPE = "GLAM_PARENT_PIPE"  # set where stdin is such a pipe


def watch_parent() -> None:
    """Interrupts this process, as Ctrl-C does, once its parent is gone: it saves a checkpoint and
    stops. Does nothing where no parent has set PARENT_PIPE."""
    if os.environ.get(PARENT_PIPE):
        # A grid in a shell's background hands down a SIGINT that is ignored.
        # Ray's processes hand down one that is blocked.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        # Slurm sends these to every process of a job; the grid answers them for all.
        for name in ("SIGUSR1", "SIGUSR2"):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        # A copy of stdin: the process may replace its own.
        threading.Thread(target=_wait_for_end_of_file, args=(os.dup(0),), daemon=True).start()


def _wait_for_end_of_file(pipe: int) -> None:
    """Reads past `sys.stdin`, whose lock would delay the interpreter's exit."""
    while os.read(pipe, 1024):
        pass
    os.kill(os.getpid(), signal.SIGINT)
