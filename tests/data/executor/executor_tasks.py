"""Tasks of the tests, in a module that other processes can import."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil

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


def square(number: int, folder: Path) -> None:
    (folder / "square").write_text(str(number * number))


def refuse_to_build(folder: Path) -> None:
    refuse()


def killed_once(begun: Path, folder: Path) -> None:
    killed_at_first(begun, 1)
    (folder / "square").write_text("done")


def killed_with_its_job_once(begun: Path, folder: Path) -> None:
    """As when a machine is lost: what started the process is killed with it."""
    if not begun.exists():
        begun.write_text("begun\n")
        os.kill(_job(), signal.SIGKILL)
        time.sleep(60)
    with begun.open("a") as file:
        file.write("begun\n")
    (folder / "square").write_text("done")


def _job() -> int:
    """The process of datatrove above this one."""
    return next(
        parent.pid
        for parent in psutil.Process().parents()
        if any("launch_pickled_pipeline" in word for word in parent.cmdline())
    )
