"""What one pass over a text finds: the bands of its MinHash signature and its n-grams that stand in
a table.

Words are runs of letters and digits in lower case, a code point at a time. Here is the definition,
in numpy; a C kernel (`glam/kernels/scan.h`) gives the same bits.
"""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.config import DedupConfig
from glam.kernels import text_library

VERSION = 1  # of every hash here
_BASE = np.uint64(0x9E3779B97F4A7C15)  # of polynomials of characters and of words
_BLOCK = 1 << 22  # characters of text that are worked on at once
_FEW = 1 << 12  # n-grams whose hashes meet all functions of a signature at once

Hashes = NDArray[np.uint64]
_NONE: Hashes = np.empty(0, np.uint64)


@dataclass(frozen=True, eq=False)
class NgramTable:
    """N-grams to look for: their lengths in words, their hashes (ascending, each once), and a
    bitmap of the hashes' low bits, which turns nearly all others away."""

    sizes: tuple[int, ...]
    keys: Hashes
    bitmap: NDArray[np.uint8]  # [2**bits / 8]

    @classmethod
    def of(cls, sizes: Sequence[int], hashes: Hashes) -> "NgramTable":
        """A table of `ngram_hashes` of the given lengths, in any order."""
        keys = np.unique(hashes)
        bits = max(16, (64 * len(keys)).bit_length())
        places = np.zeros(1 << bits, bool)
        places[(keys & np.uint64((1 << bits) - 1)).astype(np.int64)] = True
        return cls(tuple(sorted(set(sizes))), keys, np.packbits(places, bitorder="little"))

    def holds(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of the hashes are in the table."""
        if not len(self.keys):
            return np.zeros(len(hashes), bool)
        places = hashes & np.uint64(8 * len(self.bitmap) - 1)
        bytes_ = self.bitmap[(places >> np.uint64(3)).astype(np.int64)]
        found = (bytes_ >> (places & np.uint64(7)).astype(np.uint8)) & 1 == 1
        found[found] = self.is_key(hashes[found])
        return found

    def is_key(self, hashes: Hashes) -> NDArray[np.bool_]:
        """As `holds`, without the bitmap."""
        at = np.minimum(np.searchsorted(self.keys, hashes), len(self.keys) - 1)
        return self.keys[at] == hashes


class Scan(NamedTuple):
    """Of texts: `bands [texts, bands]`, all 0 for a text without a word; and each n-gram of the
    table that a text has, once a text, by the text's index (ascending) and the n-gram's hash."""

    bands: Hashes
    hit_documents: NDArray[np.int64]
    hit_keys: Hashes


def scan(texts: Sequence[str], dedup: DedupConfig | None, table: NgramTable | None) -> Scan:
    """Signatures of texts and their n-grams in `table`. None leaves either out."""
    run = _scan if text_library() is None else _scan_in_c
    parts = [run(texts[first:last], dedup, table) for first, last in _blocks(texts)]
    starts = [first for first, _ in _blocks(texts)]
    width = dedup.bands if dedup else 0
    return Scan(
        np.concatenate([np.empty((0, width), np.uint64), *(part.bands for part in parts)]),
        np.concatenate(
            [
                np.empty(0, np.int64),
                *(part.hit_documents + start for part, start in zip(parts, starts, strict=True)),
            ]
        ),
        np.concatenate([np.empty(0, np.uint64), *(part.hit_keys for part in parts)]),
    )


def _blocks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """First and last index of texts that are scanned at once."""
    first, size = 0, 0
    for index, text in enumerate(texts):
        size += len(text)
        if size >= _BLOCK:
            yield first, index + 1
            first, size = index + 1, 0
    if first < len(texts):
        yield first, len(texts)


def _scan(texts: Sequence[str], dedup: DedupConfig | None, table: NgramTable | None) -> Scan:
    bands = np.zeros((len(texts), dedup.bands if dedup else 0), np.uint64)
    documents: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    keys: list[Hashes] = [np.empty(0, np.uint64)]
    for index, text in enumerate(texts):
        words = word_hashes(text)
        if dedup and len(words):
            bands[index] = _bands(ngram_hashes(words, min(dedup.ngram, len(words))), dedup)
        if table:
            every = [ngram_hashes(words, size) for size in table.sizes]
            grams = np.concatenate([keys[0], *every])
            keys.append(np.unique(grams[table.holds(grams)]))
            documents.append(np.full(len(keys[-1]), index))
    return Scan(bands, np.concatenate(documents), np.concatenate(keys))


def _scan_in_c(texts: Sequence[str], dedup: DedupConfig | None, table: NgramTable | None) -> Scan:
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    sizes = np.array([len(text) for text in encoded], np.int64)
    chosen, looked_for = dedup or DedupConfig(bands=1), table or NgramTable.of((), _NONE)
    multipliers, addends = functions(chosen.bands * chosen.rows)
    bands = np.zeros((len(texts), dedup.bands if dedup else 0), np.uint64)
    words = np.empty(int(sizes.max(initial=0)) // 2 + 2, np.uint64)  # one at least lies between two
    lengths = np.array(looked_for.sizes, np.int64)
    room = 1024 + int(sizes.sum()) // 16  # of hits, enough for nearly all texts
    while True:
        hit_documents, hit_keys = np.empty(room, np.int64), np.empty(room, np.uint64)
        count = _function()(
            b"".join(encoded), np.cumsum(sizes), len(texts), letter_table(), words,
            chosen.ngram, bands.shape[1], chosen.rows, multipliers, addends, bands,
            lengths, len(lengths), looked_for.bitmap, 8 * len(looked_for.bitmap) - 1,
            hit_documents, hit_keys, room,
        )  # fmt: skip
        if count <= room:
            return Scan(bands, *_each_once(hit_documents[:count], hit_keys[:count], looked_for))
        room = count


def _each_once(
    documents: NDArray[np.int64], keys: Hashes, table: NgramTable
) -> tuple[NDArray[np.int64], Hashes]:
    """Hits of the bitmap that the table has: each key once a document, in ascending order."""
    if not len(keys):
        return documents, keys
    known = table.is_key(keys)
    documents, keys = documents[known], keys[known]
    order = np.lexsort((keys, documents))
    documents, keys = documents[order], keys[order]
    first = np.ones(len(keys), bool)
    first[1:] = (np.diff(documents) != 0) | (np.diff(keys) != 0)
    return documents[first], keys[first]


@cache
def _function() -> Any:
    """`scan` of scan.h, which holds no Python lock."""
    built = text_library()
    assert built is not None
    n, array = ctypes.c_int64, np.ctypeslib.ndpointer
    u8, u32, u64, i64 = (
        array(kind, flags="C") for kind in (np.uint8, np.uint32, np.uint64, np.int64)
    )
    built.scan.argtypes = [
        ctypes.c_char_p, i64, n, u32, u64, n, n, n, u32, u32, u64, i64, n, u8, ctypes.c_uint64,
        i64, u64, n,
    ]  # fmt: skip
    built.scan.restype = n
    return built.scan


def word_hashes(text: str) -> Hashes:
    """A hash for each word of the text, in order: a polynomial of its code points, mixed."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    letters = letter_table()[points].astype(np.uint64)
    edges = np.flatnonzero(np.diff(letters != 0, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return np.empty(0, np.uint64)
    lengths = ends - starts
    places = np.flatnonzero(letters)
    powers = _powers(int(lengths.max()))[np.repeat(ends, lengths) - 1 - places]
    first = np.cumsum(lengths) - lengths
    return mixed(np.add.reduceat(letters[places] * powers, first))


def ngram_hashes(words: Hashes, n: int) -> Hashes:
    """A hash for each n-gram of `words`, in order; n-grams of different lengths differ."""
    count = max(0, len(words) - n + 1)
    hashes = np.full(count, n, np.uint64)
    for start in range(n if count else 0):
        hashes = hashes * _BASE + words[start : start + count]
    return mixed(hashes)


def _bands(shingles: Hashes, dedup: DedupConfig) -> Hashes:
    """The signature of a set of n-grams: for each of bands x rows hash functions the least hash of
    all, in short one byte of it. A band is its rows' bytes side by side, so that the bands hold the
    whole signature."""
    multipliers, addends = functions(dedup.bands * dedup.rows)
    least = np.full(len(multipliers), 2**32 - 1, np.uint32)
    short = (shingles >> np.uint64(32)).astype(np.uint32)
    for start in range(0, len(short), _FEW):
        hashes = short[start : start + _FEW, None] * multipliers + addends
        hashes ^= hashes >> np.uint32(15)
        hashes *= np.uint32(0x85EBCA6B)
        np.minimum(least, hashes.min(0), out=least)
    bytes_ = (least * np.uint32(0x9E3779B1) >> np.uint32(24)).astype(np.uint64)
    shifts = 8 * np.arange(dedup.rows, dtype=np.uint64)
    return (bytes_.reshape(dedup.bands, dedup.rows) << shifts).sum(1, dtype=np.uint64)


@cache
def functions(count: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Odd multipliers and addends of a signature's hash functions."""
    drawn = mixed(np.arange(1, 2 * count + 1, dtype=np.uint64) * _BASE)
    short = (drawn >> np.uint64(32)).astype(np.uint32)
    return short[:count] | np.uint32(1), short[count:]


@cache
def letter_table() -> NDArray[np.uint32]:
    """For each code point the one in lower case, of letters and digits; 0 of all others. As this
    Python's Unicode has it."""
    table = np.zeros(0x110000, np.uint32)
    for point in range(len(table)):
        if (letter := chr(point)).isalnum():
            lower = letter.lower()
            table[point] = ord(lower) if len(lower) == 1 else point
    return table


def _powers(count: int) -> Hashes:
    """The base to the power of 0 up to below `count`."""
    bases = np.full(count, _BASE)
    bases[0] = 1
    return np.cumprod(bases)


def mixed(hashes: Hashes) -> Hashes:
    """Splitmix64's finaliser: every bit depends on every bit."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))
