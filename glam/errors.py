"""What the user can mend, told apart from what we broke."""

import difflib
import errno
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

# A full disk, a quota that is used up, a limit on the size of files.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(ValueError):
    """Input that is refused: one line naming the key, the value and the way out (exit status 2)."""


class JobFailedError(RuntimeError):
    """A job that started and could not finish: one line, exit status 1."""


# Besides Ctrl-C: sent by `kill` and schedulers, by a terminal that is closed, by Slurm before time
# is up (`--signal=USR1@60`).
STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Stopped(KeyboardInterrupt):
    """One of STOPPING asks the process to stop, or Ctrl-C does: answered wherever Ctrl-C is."""

    def __init__(self, words: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(words)
        self.number = number


def stopped_by(interrupt: KeyboardInterrupt) -> int:
    """The signal that raised it; the exit status is 128 more."""
    return interrupt.number if isinstance(interrupt, Stopped) else signal.SIGINT


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its class where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def nearest(word: str, choices: Iterable[str]) -> str:
    """A clause that helps: the closest of `choices`, or all of them when none is close."""
    options = sorted(choices)
    if not options:
        return "there are none yet"
    # Compared without case too: `GLAM_TINY` is a near miss, not a stranger.
    by_lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=2, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(by_lower[match] for match in close) + "?"
    return "choose from " + ", ".join(options)


def one_of(key: str, value: str, choices: Iterable[str]) -> None:
    """Refuse `value` for `key` unless it is among `choices`."""
    options = tuple(choices)
    if value not in options:
        raise UserError(f"{key}={value!r} is not known; {nearest(value, options)}")


def wrong_interpreter(error: ModuleNotFoundError) -> str:
    """One line for a Python that lacks a package or is too old: which interpreter to use instead.
    This module imports on any Python 3, so that run.py can say it."""
    home = Path(__file__).resolve().parents[1]
    python = home / ".venv" / "bin" / "python"
    version = ".".join(str(part) for part in sys.version_info[:2])
    lacks = f"has no package {error.name}" if error.name else f"is Python {version}: too old"
    if python.exists() and Path(sys.prefix).resolve() != python.parent.parent.resolve():
        way = f"use {python}, or first: source {python.with_name('activate')}"
    else:
        way = "make run sets up .venv and installs what is needed"
    return f"{sys.executable} {lacks}; {way}"
