"""The bytes of a file, unpacked where it is compressed, whatever becomes of its end.

A `.gz` or `.zst` is a row of members (frames); a crawl has one for each record. A member that is
damaged costs what is left of it: reading goes on with the next.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from glam.errors import first_line

_READ = 1 << 20  # bytes of a chunk
# Of a compressed file at once. A block of 128 KiB may lie in four bytes: so at most 32 MiB come
# out at once, however well a file is compressed.
_SLICE = 1 << 10
# What of a compressed file tells how well it is: so much of it, or of what comes out.
_SAMPLE, _SAMPLE_UNPACKED = 1 << 18, 1 << 26


@dataclass(frozen=True)
class Gap:
    """Bytes that could not be unpacked, and why."""

    why: str


@dataclass(frozen=True)
class _Codec:
    magic: bytes  # with which a member begins
    member: Callable[[], Any]  # unpacks one: `decompress(bytes)`, `eof`, `unused_data`
    errors: tuple[type[Exception], ...]


def _gzip() -> _Codec:
    from isal import isal_zlib  # three times as fast as zlib

    def member() -> Any:
        library: Any = isal_zlib
        return library.decompressobj(wbits=16 + zlib.MAX_WBITS)

    error: Any = isal_zlib.IsalError  # its stub has an instance
    return _Codec(b"\x1f\x8b\x08", member, (error,))


def _zstd() -> _Codec:
    import zstandard

    def member() -> Any:
        return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()

    return _Codec(zstandard.FRAME_HEADER, member, (zstandard.ZstdError,))


_CODECS = {".gz": _gzip, ".zst": _zstd}
COMPRESSED = tuple(_CODECS)


def chunks(path: Path) -> Iterator[bytes | Gap]:
    """The file's bytes, about a megabyte at a time."""
    with path.open("rb") as file:
        if path.suffix in _CODECS:
            yield from _gathered(_unpacked(file, _CODECS[path.suffix]()))
        else:
            while chunk := file.read(_READ):
                yield chunk


def _gathered(pieces: Iterator[bytes | Gap]) -> Iterator[bytes | Gap]:
    """The same bytes in pieces of at least a chunk."""
    held, size = list[bytes](), 0
    for piece in pieces:
        if isinstance(piece, bytes):
            held.append(piece)
            size += len(piece)
        if held and (isinstance(piece, Gap) or size >= _READ):
            yield b"".join(held)
            held, size = [], 0
        if isinstance(piece, Gap):
            yield piece
    if held:
        yield b"".join(held)


def _unpacked(file: BinaryIO, codec: _Codec) -> Iterator[bytes | Gap]:
    """Member after member. Zeros between them are padding, as gzip has it."""
    rest = b""
    while rest := _past_zeros(file, rest):
        member = codec.member()
        try:
            while not member.eof:
                if piece := member.decompress(rest):
                    yield piece
                rest = member.unused_data if member.eof else file.read(_SLICE)
                if not rest and not member.eof:
                    yield Gap("it ends early")
                    return
        except codec.errors as error:
            yield Gap(first_line(error))
            rest = _next_member(file, rest[1:], codec.magic)


def _past_zeros(file: BinaryIO, rest: bytes) -> bytes:
    while not (rest := rest.lstrip(b"\0")):
        if not (rest := file.read(_SLICE)):
            return b""
    return rest


def _next_member(file: BinaryIO, rest: bytes, magic: bytes) -> bytes:
    """What follows from the beginning of the next member on; nothing where there is none."""
    while (at := rest.find(magic)) < 0:
        if not (more := file.read(_SLICE)):
            return b""
        rest = rest[1 - len(magic) :] + more
    return rest[at:]


def expansion(path: Path) -> float:
    """How many bytes come out of one of a compressed file, by its beginning; 1 for any other."""
    if path.suffix not in _CODECS:
        return 1.0
    size = 0
    with path.open("rb") as file:
        for piece in _unpacked(file, _CODECS[path.suffix]()):
            size += len(piece) if isinstance(piece, bytes) else 0
            if file.tell() >= _SAMPLE or size >= _SAMPLE_UNPACKED:
                break
        return size / max(1, file.tell())
