"""Normalisation of a document's text, and its division into pages."""

import re
from collections.abc import Iterator

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_SPACE = re.compile(r"\s")


def clean(text: str) -> str:
    """Text without what says nothing: control characters, lone surrogates, white space around."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub(" ", text).encode("utf-8", "replace").decode().strip()


def reserved_in(text: str) -> dict[str, int]:
    """What `clean` replaces of characters that are seen, by name; empty for most texts."""
    count = 0 if text.isascii() else len(_SURROGATE.findall(text))
    return {"lone surrogates by ?": count} if count else {}


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
