"""Normalisation of a document's text, and its division into pages."""

import re
from collections.abc import Iterable, Iterator

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SPACE = re.compile(r"\s")
# As bytes, for these are many times faster: control characters but newlines, by spaces.
_CONTROL = bytes(
    0x20 if byte == 0x7F or (byte < 0x20 and byte != 0x0A) else byte for byte in range(256)
)
_CONTROL_OF_TWO_BYTES = re.compile(rb"\xc2[\x80-\x9f]")


def clean(text: str) -> str:
    """Text without what says nothing: control characters, lone surrogates, white space around."""
    encoded = text.encode("utf-8", "replace")
    if b"\r" in encoded:
        encoded = encoded.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    encoded = encoded.translate(_CONTROL)
    if b"\xc2" in encoded:
        encoded = _CONTROL_OF_TWO_BYTES.sub(b" ", encoded)
    return encoded.decode().strip()


def reserved_in(text: str) -> dict[str, int]:
    """What `clean` replaces of characters that are seen, by name; empty for most texts."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return {"lone surrogates by ?": len(_SURROGATE.findall(text))}
    return {}


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


def batches(texts: Iterable[str], characters: int) -> Iterator[list[str]]:
    """Texts in their order, together as soon as they have so many characters."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
