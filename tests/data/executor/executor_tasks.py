"""Tasks of the tests, in a module that other processes can import."""

import os
import signal
import threading
import time
from pathlib import Path

from glam.data.executor import advance, threads
from glam.errors import UserError


def write(path: Path) -> None:
    advance(3)
    path.write_text(f"{os.getpid()} {threads()}")


def killed_at_first(path: Path, times: int) -> None:
    """As when memory runs out: the process is gone without a word."""
    advance(5)
    with path.open("a") as file:
        file.write("begun\n")
    if len(path.read_text().splitlines()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
    raise UserError("data.corpus: nothing there")


def wait_for_ever(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(600)


def unpicklable() -> None:
    error = ValueError("of a kind that is known here alone")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error
