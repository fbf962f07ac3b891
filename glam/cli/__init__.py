"""The command line: arguments in, an exit status out (0 done, 1 failed, 2 refused; after a signal
128 and its number: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP)."""

import errno
import os
import tempfile
import traceback
from pathlib import Path

from glam.cli.signals import stoppable
from glam.cli.streams import lost_output, outlasting
from glam.errors import JobFailedError, UserError, first_line, stopped_by, wrong_interpreter
from glam.log import LEVELS, configure, log
from glam.progress import end_start, show_start

DONE, FAILED, REFUSED, STOPPED = 0, 1, 2, 128  # the last plus the signal's number
# What is wrong with a path that someone named, not with us.
OF_A_PATH = (
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENXIO),
)


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status. A refusal is one line on stderr, without a
    traceback."""
    with outlasting():
        configure(_log_level(arguments))
        with stoppable():
            status = _status(arguments)
        if (lost := lost_output()) is not None:
            return _say(f"stdout cannot be written ({lost.strerror}); send it elsewhere", FAILED)
        return status


def _log_level(arguments: list[str]) -> str:
    """As typed: some messages come before the configuration is composed."""
    levels = [a.partition("=")[2] for a in arguments if a.lstrip("+").startswith("log_level=")]
    return levels[-1] if levels and levels[-1] in LEVELS else "info"


def _status(arguments: list[str]) -> int:
    try:
        if not _inform(arguments):
            _run(arguments)
    except UserError as error:
        return _say(error, REFUSED)
    except JobFailedError as error:
        return _say(error, FAILED)
    except KeyboardInterrupt as interrupt:
        log.info(str(interrupt) or "stopped; the same command resumes where it was cut off")
        return STOPPED + stopped_by(interrupt)
    except ModuleNotFoundError as error:
        return _say(wrong_interpreter(error), REFUSED)
    except OSError as error:
        if error.filename is None or error.errno not in OF_A_PATH:
            return _say(_fault(error), FAILED)
        return _say(f"{error.filename}: {error.strerror}; name another path, or mend it", REFUSED)
    except Exception as error:
        return _say(_fault(error), FAILED)
    return DONE


def _inform(arguments: list[str]) -> bool:
    """Print the help or the version, where the command asks for it."""
    topics = [a.removeprefix("--help=") for a in arguments if a.startswith("--help=")]
    if topics or {"-h", "--help"} & set(arguments):
        from glam.cli.help import print_help

        print_help(topics or [a for a in arguments if not a.startswith("-")])
        return True
    if "--version" in arguments:
        from glam.cli.help import print_version

        print_version()
        return True
    return False


def _fault(error: Exception) -> str:
    """One line about a bug of ours; the traceback is kept in a file."""
    words = f"{type(error).__name__}: {first_line(error)} (unforeseen"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="glam-", suffix=".txt", delete=False) as file:
            traceback.print_exception(error, file=file)
    except OSError as unwritable:
        return f"{words}; its traceback cannot be kept: {unwritable.strerror}; set TMPDIR)"
    return f"{words}; traceback in {file.name})"


def _say(error: BaseException | str, status: int) -> int:
    """On one line, whatever stands in a value that it names."""
    log.error("".join(map(_visible, str(error))))
    return status


def _visible(character: str) -> str:
    """Line breaks and control characters as they would be typed."""
    return character if character.isprintable() or character == "\u00a0" else repr(character)[1:-1]


def _run(arguments: list[str]) -> None:
    if arguments[:1] == ["--cell"]:  # how a grid starts its processes
        from glam.tasks.cell import run_cell

        if len(arguments) != 2:
            raise UserError("--cell needs one file, which a grid writes; run a grid with -m")
        return run_cell(Path(arguments[1]))
    from glam.kernels.instruction_sets import asked

    asked()  # GLAM_KERNELS is refused by every task where it cannot be had
    # Hydra raises its errors instead of printing them: they are explained here.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    show_start()
    try:
        _run_with_hydra(arguments)
    finally:
        end_start()


def _run_with_hydra(arguments: list[str]) -> None:
    from glam.cli.app import run_with_hydra
    from glam.composition.explain import REFUSALS, explain_hydra_error
    from glam.composition.normalize import normalized
    from glam.composition.overrides import check_line

    arguments = normalized(arguments)
    check_line(arguments)
    try:
        run_with_hydra(arguments)
    except REFUSALS as error:
        raise UserError(explain_hydra_error(error, arguments)) from error
