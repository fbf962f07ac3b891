"""WET: the text of a crawl's pages, each behind a header that tells its length.

Read here and not by a library: fastwarc and warcio end a file at the first header that is damaged.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from glam.config import BadRecord, Record
from glam.data.formats.bad import KEPT, NOT_UTF8, NOT_WET, TOO_LONG, bad, damaged
from glam.data.formats.fields import Fields
from glam.data.formats.unpack import Gap, chunks

_HEADER = re.compile(rb"WARC/1\.\d\r?\n(.*?)\r?\n\r?\n", re.DOTALL)
_NEXT = re.compile(rb"\n(?=WARC/1\.\d\r?\n)")
_BEHIND = re.compile(rb"\r?\n\r?\n|\s*(?:WARC/1\.\d\r?\n|\Z)")  # what a record ends with
_INK = re.compile(rb"\S")
_LONGEST_HEADER = 1 << 16
_MOST_DIGITS = 20  # of a length: more are too long whatever they are
_LOOK_AHEAD = 64  # bytes in which `_BEHIND` is found


def read(path: Path, fields: Fields) -> Iterator[Record | BadRecord]:
    """The documents of a `.wet`; the place of one is its number, that of the first record being 1.
    The lines of its header are fields: `WARC-Identified-Content-Language` may name the domain."""
    window, number, most = _Window(path), 0, fields.spec.most_bytes
    while window.skip_blank():
        number += 1
        header, begin = window.header()
        size = _size(header)
        if size is None or size > most or not window.is_followed(begin + size):
            kind = TOO_LONG if size is not None and size > most else NOT_WET
            yield bad(kind, path, number, window.raw(KEPT))
            window.seek()
        else:
            if header.get("WARC-Type") == "conversion":
                payload = window.raw(begin + size)[begin:]
                yield _document(payload, header, path, number, fields)
            window.move(begin + size)
        while window.gaps:
            window.gaps.pop()
            yield bad(damaged(path), path, number)


def _size(header: dict[str, str]) -> int | None:
    size = header.get("Content-Length", "")
    return int(size[:_MOST_DIGITS]) if size.isdecimal() else None


def _document(
    payload: bytes, header: dict[str, str], path: Path, number: int, fields: Fields
) -> Record | BadRecord:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return bad(NOT_UTF8, path, number, payload)
    return fields.record(header | {fields.spec.text_field: text}, path, number, payload)


class _Window:
    """The bytes that are held, from the present record on. Places are counted from there."""

    def __init__(self, path: Path) -> None:
        self._chunks = chunks(path)
        self._bytes, self._at = b"", 0
        self.gaps: list[Gap] = []

    def _hold(self, count: int) -> bool:
        """Read on until so many bytes are held; False where the file has fewer."""
        if len(self._bytes) - self._at >= count:
            return True
        parts = [self._bytes[self._at :]]
        size = len(parts[0])
        for chunk in self._chunks:
            if isinstance(chunk, Gap):
                self.gaps.append(chunk)
                continue
            parts.append(chunk)
            if (size := size + len(chunk)) >= count:
                break
        self._bytes, self._at = b"".join(parts), 0
        return size >= count

    def skip_blank(self) -> bool:
        """Go to the next byte that is no white space; False at the end."""
        while self._hold(1):
            found = _INK.search(self._bytes, self._at)
            self._at = found.start() if found else len(self._bytes)
            if found:
                return True
        return False

    def header(self) -> tuple[dict[str, str], int]:
        """The header that begins here, and where what it is of begins; none where it is none."""
        self._hold(_LONGEST_HEADER)
        found = _HEADER.match(self._bytes, self._at, self._at + _LONGEST_HEADER)
        if found is None:
            return {}, 0
        lines = found.group(1).decode("utf-8", "replace").splitlines()
        pairs = (line.partition(":") for line in lines)
        return {name: value.strip() for name, _, value in pairs}, found.end() - self._at

    def is_followed(self, place: int) -> bool:
        """Whether a record ends at a place."""
        if not self._hold(place + _LOOK_AHEAD) and len(self._bytes) - self._at < place:
            return False
        return _BEHIND.match(self._bytes, self._at + place) is not None

    def raw(self, count: int) -> bytes:
        return self._bytes[self._at : self._at + count]

    def move(self, count: int) -> None:
        self._at += count

    def seek(self) -> None:
        """Go to the next record, or to the end. What is passed over is not held."""
        self._at += 1
        while (found := _NEXT.search(self._bytes, self._at)) is None:
            self._at = max(self._at, len(self._bytes) - _LOOK_AHEAD)
            if not self._hold(len(self._bytes) - self._at + 1):
                self._at = len(self._bytes)
                return
        self._at = found.end()
