"""Documents made ready for a shard, many at once: cleaned, counted and named by a hash.

What is done to each is said by `glam.data.text.clean` and `glam.data.hashing.document_hash`; a C
kernel (`glam/kernels/cleaned.h`) gives the same bytes.
"""

import ctypes
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from glam.data.hashing import document_hash
from glam.data.text import clean, reserved_in
from glam.kernels import text_library

_MOST_BYTES = 3  # of a case folding, for each byte of what it stands for


@dataclass(frozen=True, eq=False)
class Documents:
    """Cleaned documents, none of which is empty."""

    texts: Any  # a pyarrow array of large_string [documents]
    hashes: NDArray[np.uint64]  # [documents]
    characters: NDArray[np.int64]  # [documents]
    num_bytes: NDArray[np.int64]  # [documents], of UTF-8

    def __len__(self) -> int:
        return len(self.hashes)

    def at(self, indices: NDArray[np.integer] | slice) -> "Documents":
        """Those of the given indices."""
        slices = isinstance(indices, slice)
        return Documents(
            self.texts[indices] if slices else self.texts.take(indices),
            self.hashes[indices],
            self.characters[indices],
            self.num_bytes[indices],
        )


def cleaned(texts: Sequence[str]) -> tuple[Documents, NDArray[np.int64], Counter[str]]:
    """The documents of `texts`; the index among the texts of each, for a text of which nothing is
    left is none; and what was replaced of characters that are seen, counted by name."""
    replaced = Counter[str]()
    try:
        encoded = _strings(texts)
    except UnicodeEncodeError:
        for text in texts:
            replaced.update(reserved_in(text))
        encoded = _strings([text.encode("utf-8", "replace").decode() for text in texts])
    library = text_library()
    found = _in_python(encoded) if library is None else _in_c(encoded, library)
    kept = np.flatnonzero(found.num_bytes)
    return (found if len(kept) == len(found) else found.at(kept)), kept, replaced


def _in_python(encoded: Any) -> Documents:
    texts = [clean(text) for text in encoded.to_pylist()]
    return Documents(
        _strings(texts),
        np.array([document_hash(text) for text in texts], np.uint64),
        np.array([len(text) for text in texts], np.int64),
        np.array([len(text.encode()) for text in texts], np.int64),
    )


def _in_c(encoded: Any, library: ctypes.CDLL) -> Documents:
    _, starts, text = encoded.buffers()
    count, size = len(encoded), 0 if text is None else text.size
    out, words = np.empty(size, np.uint8), np.empty(_MOST_BYTES * size, np.uint8)
    ends, characters, word_ends = (np.zeros(count + 1, np.int64) for _ in range(3))
    if text is not None:
        place, pool = _case_folding()
        _function(library)(
            text.address, starts.address, count, place, len(place), pool, out,
            ends[1:], characters, words, word_ends[1:],
        )  # fmt: skip
    held, cuts = words.data, word_ends.tolist()
    hashed = xxhash.xxh3_64_intdigest
    return Documents(
        arrow().LargeStringArray.from_buffers(
            count, arrow().py_buffer(ends), arrow().py_buffer(out)
        ),
        np.array([hashed(held[a:b]) for a, b in pairwise(cuts)], np.uint64),
        characters[:count],
        np.diff(ends),
    )


@cache
def _case_folding() -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Where the case folding of each code point stands (0: it is its own), and the foldings, each
    behind its length. No character beyond the second plane has a case."""
    place, pool = np.zeros(1 << 17, np.int32), bytearray(1)
    for point in range(128, len(place)):
        character = chr(point)
        folded = character.casefold()
        if folded != character:
            place[point] = len(pool)
            stands = folded.encode("utf-8", "surrogatepass")
            pool += bytes([len(stands)]) + stands
    return place, np.frombuffer(bytes(pool), np.uint8)


@cache
def _function(library: ctypes.CDLL) -> Any:
    """`clean_documents` of cleaned.h."""
    n, address, array = ctypes.c_int64, ctypes.c_void_p, np.ctypeslib.ndpointer
    u8, i32, i64 = (array(kind, flags="C") for kind in (np.uint8, np.int32, np.int64))
    function = library.clean_documents
    function.argtypes = [address, address, n, i32, n, u8, u8, i64, i64, u8, i64]
    function.restype = None
    return function


def _strings(texts: Sequence[str]) -> Any:
    return arrow().array(texts, arrow().large_string())


def arrow() -> Any:
    """The package `pyarrow`, imported late: a run with cached tokens reads no text."""
    import pyarrow  # pyright: ignore[reportMissingTypeStubs]

    return pyarrow
