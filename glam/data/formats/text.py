"""Plain text: a file is a document, or many sections."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from glam.config import BadRecord, Record
from glam.data.formats.bad import EMPTY, NOT_UTF8, bad, damaged
from glam.data.formats.fields import Fields
from glam.data.formats.lines import BOM
from glam.data.formats.unpack import Gap, chunks, expansion

_LEAST, _SMALLEST = 4_096, 200  # bytes of a section; fewer, that a file has _SECTIONS of them
_SECTIONS = 40
_LONGEST = 4  # times as long, a section ends without either
# A blank line; or what is before a heading: of Markdown, of a wiki, or "Chapter 7".
_BREAK = re.compile(
    rb"\n[ \t\r]*\n\s*"
    rb"|\n(?=#{1,6} |={1,6} [^\n=]+ ={1,6}\s*\n"
    rb"|(?i:chapter|part|book|section|act) (?:\d+|(?i:[ivxlc]+))\b[^\n]{0,60}\n)"
)


def read(path: Path, fields: Fields) -> Iterator[Record | BadRecord]:
    """The document of a `.txt`, or its sections: those of a file alone in its domain
    (`Spec.sections`), and of one that is larger than a record may be.

    A section ends at the first blank line or heading behind 4 kB; of a small file, behind a
    fortieth of it or 200 bytes. Where none comes within four times as much it ends at a line's end,
    or a word's."""
    source = chunks(path)
    if fields.spec.sections:
        yield from _sections(path, source)
        return
    held, size = list[bytes | Gap](), 0
    for chunk in source:
        held.append(chunk)
        size += len(chunk) if isinstance(chunk, bytes) else 0
        if size > fields.spec.most_bytes:
            yield from _sections(path, chain(held, source))
            return
    yield from _whole(path, held)


def _whole(path: Path, held: list[bytes | Gap]) -> Iterator[Record | BadRecord]:
    text = b"".join(chunk for chunk in held if isinstance(chunk, bytes))
    yield _document(path, 1, text.removeprefix(BOM))
    if any(isinstance(chunk, Gap) for chunk in held):
        yield bad(damaged(path), path, None)


def _document(path: Path, line: int, raw: bytes) -> Record | BadRecord:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line += raw.count(b"\n", 0, error.start)
        return bad(NOT_UTF8, path, line, raw[error.start :])
    return Record(text) if text and not text.isspace() else bad(EMPTY, path, line)


def _sections(path: Path, source: Iterable[bytes | Gap]) -> Iterator[Record | BadRecord]:
    size = int(path.stat().st_size * expansion(path))
    least = max(_SMALLEST, min(_LEAST, size // _SECTIONS))
    rest, line = b"", 1
    for chunk in chain(source, [b""]):
        is_last = not chunk or isinstance(chunk, Gap)
        rest += chunk if isinstance(chunk, bytes) else b""
        start = 0
        for end in _ends(rest, least, is_last):
            piece = rest[start:end]
            if piece.removeprefix(BOM).strip():
                yield _document(path, line, piece.removeprefix(BOM))
            line += piece.count(b"\n")
            start = end
        rest = rest[start:]
        if isinstance(chunk, Gap):
            yield bad(damaged(path), path, line)


def _ends(text: bytes, least: int, is_last: bool) -> Iterator[int]:
    """Where sections end, as far as the text that is read tells, or to its last."""
    start, longest = 0, _LONGEST * least
    while len(text) - start > longest:
        yield (start := _end(text, start + least, start + longest))
    while is_last and start < len(text):
        found = _BREAK.search(text, start + least)
        yield (start := found.end() if found else len(text))


def _end(text: bytes, first: int, last: int) -> int:
    """The first break's, the last line's, the last word's between two places, or `last`."""
    if found := _BREAK.search(text, first, last):
        return found.end()
    for mark in (b"\n", b" "):
        if (at := text.rfind(mark, first, last)) >= 0:
            return at + 1
    while text[last] & 0xC0 == 0x80 and last > first:  # within a character
        last -= 1
    return last
