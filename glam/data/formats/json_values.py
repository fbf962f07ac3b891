"""JSON that is not by lines: an array of objects, one object, or objects one after the other.

A value is parsed as soon as it has been read whole, so a file may be of any size. Where one is
broken, reading goes on with the next that looks like the beginning of a record.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path

from glam.config import BadRecord, Record
from glam.data.formats.bad import ESCAPED, KEPT, NOT_JSON, NOT_UTF8, TOO_LONG, bad, damaged
from glam.data.formats.fields import Fields
from glam.data.formats.unpack import Gap, chunks

_BETWEEN = re.compile(r"[\s,\[\]\ufeff]*")  # of values: an array is its values
_RECORD = re.compile(r"(?:[}\]]\s*,?\s*|\n\s*)(?=\{)")  # what is before the next one
_CUT = 16  # characters at the end, where an error may be that of an end not yet read


def read(path: Path, fields: Fields) -> Iterator[Record | BadRecord]:
    """The documents of a `.json`; a value's place is the line in which it begins."""
    window = _Window(path)
    decode = json.JSONDecoder().raw_decode
    while window.skip():
        try:
            value, end = decode(window.text, window.at)
        except (ValueError, RecursionError) as error:
            if _is_cut(error, window) and window.left <= fields.spec.most_bytes and window.more():
                continue
            kind = TOO_LONG if window.left > fields.spec.most_bytes else NOT_JSON
            yield bad(kind, path, window.line, window.raw(window.at + KEPT))
            window.seek()
        else:
            raw, line, is_utf8 = window.raw(end), window.line, window.is_utf8(end)
            yield (
                fields.record(value, path, line, raw) if is_utf8 else bad(NOT_UTF8, path, line, raw)
            )
            window.move(end)
        while window.gaps:
            window.gaps.pop()
            yield bad(damaged(path), path, window.line)
    if window.gaps:
        yield bad(damaged(path), path, window.line)


def _is_cut(error: Exception, window: "_Window") -> bool:
    """Whether more text may mend the error."""
    return isinstance(error, json.JSONDecodeError) and (
        error.pos > len(window.text) - _CUT or error.msg.startswith("Unterminated")
    )


class _Window:
    """The part of a file's text that is held: from the present value's line on."""

    def __init__(self, path: Path) -> None:
        self._chunks = chunks(path)
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._has_escaped = False
        self.text, self.at, self.line = "", 0, 1
        self.gaps: list[Gap] = []

    @property
    def left(self) -> int:
        """Characters that are held of what has not been parsed."""
        return len(self.text) - self.at

    def more(self) -> bool:
        """Read on; False at the end."""
        for chunk in self._chunks:
            if isinstance(chunk, Gap):
                self.gaps.append(chunk)
                continue
            text = self._decode(chunk)
            self._has_escaped |= not text.isascii() and bool(ESCAPED.search(text))
            self.text, self.at = self.text[self.at :] + text, 0
            return True
        return False

    def move(self, to: int) -> None:
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def skip(self) -> bool:
        """Go to where a value begins; False where there is none."""
        while True:
            found = _BETWEEN.match(self.text, self.at)
            self.move(found.end() if found else self.at)
            if self.left:
                return True
            if not self.more():
                return False

    def seek(self) -> None:
        """Go to the next record, or to the end. What is passed over is not held."""
        self.move(self.at + 1)
        while "{" not in self.text or not (found := _RECORD.search(self.text, self.at)):
            self.move(max(self.at, len(self.text) - _CUT))
            if not self.more():
                self.move(len(self.text))
                return
        self.move(found.end())

    def raw(self, end: int) -> bytes:
        """The beginning of what lies between here and there."""
        return self.text[self.at : min(end, self.at + KEPT)].encode("utf-8", "surrogateescape")

    def is_utf8(self, end: int) -> bool:
        return not (self._has_escaped and ESCAPED.search(self.text, self.at, end))
