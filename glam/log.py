"""The one logger: what a person at the terminal is told, beside what a script reads on stdout.

`info` says what is done, `warning` what is not as asked and how to mend it, `debug` what helps
whoever searches a fault. Library users configure the logger "glam" as they like; the command line
calls `configure`.
"""

import logging
import sys

from rich.console import Console
from rich.text import Text

log = logging.getLogger("glam")

LEVELS = ("debug", "info", "warning", "error")
STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "bold red"}


class _ToStderr(logging.Handler):
    """A line to whatever `sys.stderr` is now: coloured on a terminal, plain elsewhere."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if record.levelno >= logging.WARNING:
                line = f"{record.levelname.lower()}: {line}"
            if sys.stderr.isatty():
                # By `sys.stderr`, which rich replaces while it draws a bar: the line goes above it.
                console = Console(stderr=True)
                with console.capture() as styled:
                    style = STYLES.get(record.levelname, "")
                    console.print(Text(line, style=style), soft_wrap=True)
                print(styled.get(), end="", file=sys.stderr, flush=True)
            else:
                print(line, file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def configure(level: str = "info") -> None:
    """Sends the logger's lines to stderr, from `level` on. Calling it again changes the level."""
    log.setLevel(level.upper())
    log.propagate = False
    # Where its folder cannot be written, matplotlib advises at length; a temporary one serves.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    if not any(isinstance(handler, _ToStderr) for handler in log.handlers):
        log.addHandler(_ToStderr())
