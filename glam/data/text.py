"""Normalisation of a document's text, and its division into pages."""

import re
from collections.abc import Iterator

# Control characters say nothing, and U+2581 is SentencePiece's mark for a space: with either
# left in, decoding would not give back what was encoded, and bits per byte would not be exact.
_SPACE_MARK = "\u2581"
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_SPACE = re.compile(r"\s")


def clean(text: str) -> str:
    """Text that survives tokenizing exactly: no control characters, no lone surrogates."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace(_SPACE_MARK, "_")
    return _CONTROL.sub(" ", text).encode("utf-8", "replace").decode().strip()


def reserved_in(text: str) -> dict[str, int]:
    """What `clean` replaces of characters that are seen, by name; empty for most texts."""
    found = {
        "U+2581 by _": text.count(_SPACE_MARK),
        "lone surrogates by ?": 0 if text.isascii() else len(_SURROGATE.findall(text)),
    }
    return {name: count for name, count in found.items() if count}


def pages(text: str, limit: int) -> Iterator[str]:
    """Pages of at most `limit` characters and about equal length, cut at white space. A longer word
    is cut at the limit."""
    start = 0
    while (left := len(text) - start) > limit:
        even = -(-left // -(-left // limit))
        end = _cut(text, start, start + even, start + limit)
        if page := text[start:end].strip():
            yield page
        start = end
    if page := text[start:].strip():
        yield page


def _cut(text: str, start: int, even: int, last: int) -> int:
    """The first white space from `even` to `last`, or the nearest before `even`."""
    if after := _SPACE.search(text, even, last + 1):
        return after.start()
    for end in range(even - 1, start, -1):
        if text[end].isspace():
            return end
    return last
