"""Text to tokens by a unigram model in C: the tokens that SentencePiece gives, many times faster.

The kernel (`glam/kernels/unigram.h`) works on text as it is, with spaces in the pieces for
SentencePiece's own sign for one. It cuts text apart where no piece goes over, and remembers how
short stretches are cut.
"""

from collections.abc import Sequence
from ctypes import CDLL, c_char_p, c_double, c_float, c_int32, c_int64, c_uint32, c_void_p
from functools import cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.kernels import text_library

SPACE = "\u2581"  # SentencePiece's own sign for a space
_PENALTY = np.float32(10)  # of a character without a piece, beside the least score
_BONUS = 0.1  # of each byte but the first of a piece that is always cut out
_SLOTS = 1 << 17  # for stretches that are remembered, 64 bytes each
_PLACE = 12  # bytes
_LOCK = Lock()  # of what is remembered
_BEHIND = 24  # bytes that the kernel may look at behind a text


class Piece(NamedTuple):
    """A piece that text is cut into, and its token."""

    text: str
    token: int
    score: float
    is_always_cut: bool

    @property
    def worth(self) -> float:
        """What SentencePiece adds to a path's score for it."""
        return _BONUS * (len(self.text.encode()) - 1) if self.is_always_cut else self.score


class Unigram:
    """The pieces of a model. `single_bytes [256]` are the tokens of bytes; `unknown` and `begin`
    those of a character without a piece and of a document's beginning."""

    def __init__(
        self, pieces: Sequence[Piece], single_bytes: Sequence[int], unknown: int, begin: int
    ) -> None:
        self._begin, self._unknown = begin, unknown
        self._bytes = np.array(single_bytes, np.uint32)
        self._worth = np.zeros(1 + max(piece.token for piece in pieces), np.float32)
        for piece in pieces:
            self._worth[piece.token] = piece.worth
        scores = (piece.score for piece in pieces if not piece.is_always_cut)
        self._unknown_worth = float(np.float32(min(scores)) - _PENALTY)
        self._most = float(np.abs(self._worth).max())
        ordered = sorted((piece.text.replace(SPACE, " ").encode(), piece.token) for piece in pieces)
        self._trie = _trie(ordered)
        self._joined = _joined([text for text, _ in ordered])
        memory = np.zeros(8 * (_SLOTS + 1), np.uint64)
        self._known = memory[-memory.ctypes.data % 64 // 8 :]  # a slot is a line of the cache

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """All documents' tokens end to end, each document's beginning before them; and how many
        each has with it `[documents]`."""
        encoded = [text.encode() for text in texts]
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        longest = max(map(len, encoded), default=0)
        places = np.empty((longest + 1) * _PLACE // 4, np.int32)
        tokens = np.empty(len(texts) + sum(map(len, encoded)), np.uint32)
        token_ends = np.empty(len(texts), np.int64)
        with _LOCK:
            _kernel()(
                *(b"".join([*encoded, bytes(_BEHIND)]), ends.ctypes.data, len(texts), self._begin),
                *(array.ctypes.data for array in (*self._trie, self._worth, self._joined)),
                *(self._bytes.ctypes.data, self._unknown_worth, self._most, self._unknown),
                *(self._known.ctypes.data, _SLOTS, places.ctypes.data),
                *(tokens.ctypes.data, token_ends.ctypes.data),
            )
        lengths = np.diff(token_ends, prepend=0)
        return tokens[: int(lengths.sum())], lengths


def can_encode(pieces: Sequence[Piece]) -> bool:
    """Whether the kernel cuts text by these pieces as SentencePiece does: a space has a piece, and
    none has a space that SentencePiece never sees."""
    ordinary = {piece.text for piece in pieces if not piece.is_always_cut}
    return SPACE in ordinary and not any(" " in piece.text for piece in pieces)


def _library() -> CDLL:
    library = text_library()
    assert library is not None, "ask `text_library` first"
    return library


@cache
def _kernel() -> Any:
    """`unigram_encode` of unigram.h, which holds no Python lock."""
    kernel = _library().unigram_encode
    kernel.restype = None
    kernel.argtypes = [
        *(c_char_p, c_void_p, c_int64, c_uint32),
        *[c_void_p] * 5,
        *(c_void_p, c_float, c_double, c_int32),
        *(c_void_p, c_int64, c_void_p),
        *(c_void_p, c_void_p),
    ]
    return kernel


def _trie(
    ordered: Sequence[tuple[bytes, int]],
) -> tuple[NDArray[np.uint32], NDArray[np.int32], NDArray[np.uint8]]:
    """The trie of pieces: each node's first child, the token that ends there, and the byte that
    leads to it."""
    text = b"".join(piece for piece, _ in ordered)
    starts = np.cumsum([0, *(len(piece) for piece, _ in ordered)])
    tokens = np.array([token for _, token in ordered], np.int32)
    room = len(text) + 2
    first, ends = np.empty(room, np.uint32), np.empty(room, np.int32)
    labels, scratch = np.empty(room, np.uint8), np.empty((3, room), np.int32)
    build = _library().unigram_trie
    build.restype, build.argtypes = c_int64, [c_char_p, *[c_void_p] * 2, c_int64, *[c_void_p] * 6]
    nodes = build(
        *(text, starts.ctypes.data, tokens.ctypes.data, len(ordered)),
        *(first.ctypes.data, ends.ctypes.data, labels.ctypes.data),
        *(row.ctypes.data for row in scratch),
    )
    return first[: nodes + 1].copy(), ends[:nodes].copy(), labels[:nodes].copy()


def _joined(pieces: Sequence[bytes]) -> NDArray[np.uint8]:
    """A bit for each pair of bytes: whether they stand side by side in a piece `[256 * 32]`."""
    text = np.frombuffer(b"".join(pieces), np.uint8).astype(np.int64)
    ends = np.cumsum([len(piece) for piece in pieces])
    inside = np.ones(len(text), bool)
    inside[ends - 1] = False  # the last byte of a piece and the first of the next
    found = np.zeros(1 << 16, bool)
    at = np.flatnonzero(inside)
    found[(text[at] << 8) + text[at + 1]] = True
    return np.packbits(found, bitorder="little")
