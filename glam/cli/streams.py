"""Standard streams that cost no run its end: their reader may have gone, the terminal be closed,
the descriptor be missing, or the encoding lack a character."""

import codecs
import errno
import io
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

# The reader has gone: `| head`, a terminal that is closed, `>&-`.
GONE = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ECONNRESET, errno.ESHUTDOWN)


# What our own words hold besides ASCII.
PLAIN = {"…": "...", "\xa0": " ", "\u202f": " ", "×": "x", "−": "-", "’": "'"}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """For an encoding that lacks a character: one that is like it, or its number."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    escaped = (
        PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking
    )
    return "".join(escaped), error.end


codecs.register_error("glam.plain", _plain)


class Stream(io.TextIOWrapper):
    """Once it cannot be written, the rest goes nowhere, and `lost` says why. Characters that the
    encoding lacks are replaced."""

    def __init__(self, over: io.TextIOWrapper) -> None:
        super().__init__(
            over.buffer,
            encoding=over.encoding,
            errors="glam.plain",
            line_buffering=over.line_buffering,
            write_through=over.write_through,
        )
        self.lost: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.lost = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


@contextmanager
def outlasting() -> Generator[None]:
    """stdout and stderr as `Stream`s, until the end of the block."""
    _open_closed()
    before = sys.stdout, sys.stderr
    ours: list[Stream] = []  # a stream that is dropped would close its descriptor
    for name in ("stdout", "stderr"):
        stream: object = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            over = cast("io.TextIOWrapper", stream)
            over.flush()
            ours.append(Stream(over))
            setattr(sys, name, ours[-1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in ours:
            stream.detach()


def _open_closed() -> None:
    """A descriptor that is closed would be that of the next file that is opened."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115


def lost_output() -> OSError | None:
    """Why what the command printed, its product, is not where it should be: a full disk, say. None
    where it is, and where its reader has left."""
    sys.stdout.flush()
    lost = sys.stdout.lost if isinstance(sys.stdout, Stream) else None
    return None if lost is None or lost.errno in GONE else lost
