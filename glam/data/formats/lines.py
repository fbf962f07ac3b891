"""Lines of a file as bytes, none of which is held beyond a limit."""

from collections.abc import Iterator
from pathlib import Path

from glam.config import BadRecord
from glam.data.formats.bad import KEPT, TOO_LONG, bad, damaged
from glam.data.formats.unpack import Gap, chunks

BOM = b"\xef\xbb\xbf"


def lines(path: Path, most_bytes: int) -> Iterator[tuple[int, bytes] | BadRecord]:
    """Each line with its number, from 1, without the line break. Of a line of more than
    `most_bytes`, and of one that is cut by damage, a bad record stands in its place."""
    number, tail = 1, _Tail(most_bytes)
    for chunk in chunks(path):
        if isinstance(chunk, Gap):
            yield bad(damaged(path), path, number, tail.end()[0])
            continue
        if number == 1 and not tail.size:
            chunk = chunk.removeprefix(BOM)
        first, *within = chunk.split(b"\n")
        tail.add(first)
        if not within:
            continue
        last = within.pop()
        yield _line(path, number, *tail.end())
        for line in within:
            number += 1
            yield (number, line) if len(line) <= most_bytes else bad(TOO_LONG, path, number, line)
        number += 1
        tail.add(last)
    if tail.size:
        yield _line(path, number, *tail.end())


def _line(path: Path, number: int, line: bytes, whole: bool) -> tuple[int, bytes] | BadRecord:
    return (number, line) if whole else bad(TOO_LONG, path, number, line)


class _Tail:
    """A line that is not at its end yet, or the beginning of one that is too long."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._parts, self.size = most_bytes, list[bytes](), 0

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self.size <= self._most:
            self._parts.append(part)
        else:  # no more than is set aside
            self._parts = [(b"".join(self._parts) + part[:KEPT])[:KEPT]]

    def end(self) -> tuple[bytes, bool]:
        """The line, and whether it is whole; the next one begins."""
        line, whole = b"".join(self._parts), self.size <= self._most
        self._parts, self.size = [], 0
        return line, whole
