"""Which documents are copies: equal ones by their hashes, near ones by the bands of their MinHash
signatures. Of documents that are alike the first stays: held-out text before curated before the
pool's, and of one kind the earliest that was read.

Documents whose signatures agree in a band are compared by their whole signatures, and linked where
those are alike enough. Of documents that links connect one stays. A signature's minima are put
into bands twice, along and across: two documents of similarity 0.8 then meet in a band (14 of 8)
with a probability of 99.4 % instead of 92.

Memory is bounded, some 0.3 GB for any number of documents: signatures and the keys of a few bands
at a time are spilled to disk, each 112 bytes a document, and what links connect is a mapped file of
8 bytes a document. A document is compared to the first with its key and to one before it, so a
million equal signatures are two million pairs at most.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.config import DedupConfig
from glam.data.links import Links
from glam.data.scan import Hashes, mixed
from glam.data.spill import Numbers, Spill, repeats
from glam.progress import bar

VERSION = 1
STAYS, EXACT, NEAR = 0, 1, 2  # a document: no copy, one of an equal document, of one much alike
_DOCUMENTS = 1 << 17  # whose hashes and bands are read at once
_PAIRS = 1 << 17  # that are compared at once
_COLUMNS = 7  # of bands that are spilled at once


@dataclass(frozen=True)
class Signed:
    """A shard's documents: files of `hashes [documents]` and, where near copies are looked for, of
    `bands [documents, bands]`. Of copies the one of the lowest priority number stays."""

    hashes: Path
    bands: Path | None
    priority: int


class _Chunk(NamedTuple):
    """Some documents of a shard."""

    shard: int
    rows: slice  # of the shard's arrays
    ranks: Numbers


def write_copies(folder: Path, shards: Sequence[Signed], dedup: DedupConfig) -> None:
    """Write to `<folder>/<i>.npy` which documents of shard i, in reading order, are copies: uint8
    `[documents]` of STAYS, EXACT or NEAR."""
    with_bands = any(shard.bands for shard in shards)
    passes = -(-2 * dedup.bands // _COLUMNS) if with_bands else 0
    every = _Ranked(folder, shards)
    scratch = folder / "scratch"
    scratch.mkdir()
    with bar("find copies", every.total, "documents") as running:
        _mark_equal(every, Spill(scratch / "hashes", every.total))
        running.advance(every.total // (1 + passes))
        if with_bands:
            signatures = _Signatures(scratch / "signatures", every, dedup)
            links = Links(scratch / "links", every.total)
            for number in range(passes):
                _link_alike(signatures, links, scratch / f"bands-{number}", number)
                running.advance((every.total - running.done) // (passes - number))
            for start in range(0, every.total, _DOCUMENTS):
                linked = links.is_linked(start, min(every.total, start + _DOCUMENTS))
                every.mark(start + np.flatnonzero(linked), NEAR)
        running.advance(every.total - running.done)
    shutil.rmtree(scratch)


class _Ranked:
    """All documents by rank: of two copies the lower stays."""

    def __init__(self, folder: Path, shards: Sequence[Signed]) -> None:
        self.shards, self._folder = shards, folder
        self._order = sorted(range(len(shards)), key=lambda index: shards[index].priority)
        sizes = [len(np.load(shards[index].hashes, mmap_mode="r")) for index in self._order]
        self._starts = np.cumsum([0, *sizes])
        self.total = int(self._starts[-1])
        for index, size in zip(self._order, sizes, strict=True):
            np.save(folder / f"{index}.npy", np.zeros(size, np.uint8))

    def chunks(self) -> Iterator[_Chunk]:
        """By ascending rank."""
        for place, index in enumerate(self._order):
            start, end = self._starts[place : place + 2].tolist()
            for first in range(start, end, _DOCUMENTS):
                last = min(end, first + _DOCUMENTS)
                rows = slice(first - start, last - start)
                yield _Chunk(index, rows, np.arange(first, last))

    def copies(self, shard: int) -> NDArray[np.uint8]:
        """What is known by now, a mapped file."""
        return np.load(self._folder / f"{shard}.npy", mmap_mode="r+")

    def mark(self, ranks: Numbers, kind: int) -> None:
        ranks = np.sort(ranks)
        cuts = np.searchsorted(ranks, self._starts)
        for place in np.flatnonzero(np.diff(cuts)).tolist():
            mine = ranks[cuts[place] : cuts[place + 1]] - self._starts[place]
            self.copies(self._order[place])[mine] = kind


def _mark_equal(every: _Ranked, spill: Spill) -> None:
    for chunk in every.chunks():
        hashes = np.load(every.shards[chunk.shard].hashes, mmap_mode="r")[chunk.rows]
        spill.add(mixed(hashes), chunk.ranks)
    for place in range(spill.count):
        for again, _, _ in repeats(spill.blocks(place)):
            every.mark(again, EXACT)


class _Signatures:
    """Bands of all documents by rank, in one file: `[documents, bands]`; 0 of those without."""

    def __init__(self, path: Path, every: _Ranked, dedup: DedupConfig) -> None:
        self.dedup, self.total, self._path = dedup, every.total, path
        with path.open("wb") as file:
            for chunk in every.chunks():
                bands = np.zeros((len(chunk.ranks), dedup.bands), np.uint64)
                if found := every.shards[chunk.shard].bands:
                    bands[:] = np.load(found, mmap_mode="r")[chunk.rows]
                    bands[every.copies(chunk.shard)[chunk.rows] != STAYS] = 0
                bands.tofile(file)
        self._size = 8 * dedup.bands

    def keys(self, columns: range) -> Iterator[tuple[Hashes, Numbers]]:
        """Documents and what they have to agree in, for bands that are numbered along and then
        across: chunk by chunk, column by column."""
        with self._path.open("rb") as file:
            for start in range(0, self.total, _DOCUMENTS):
                bands = np.fromfile(file, np.uint64, _DOCUMENTS * self.dedup.bands)
                bands = bands.reshape(-1, self.dedup.bands)
                signed = np.flatnonzero(bands.any(1))
                both = np.concatenate([bands[signed], _across(bands[signed], self.dedup.rows)], 1)
                for column in columns:
                    number = mixed(np.full(1, column + 1, np.uint64))
                    yield mixed(both[:, column] ^ number), start + signed

    def alike(self, first: Numbers, second: Numbers) -> NDArray[np.bool_]:
        """Which pairs' estimated similarity reaches the threshold. A byte of two unlike minima is
        equal once in 256 times."""
        documents, index = np.unique(np.concatenate([first, second]), return_inverse=True)
        with self._path.open("rb") as file:
            number = file.fileno()  # read, not mapped: a row would bring its page's neighbours
            rows = [os.pread(number, self._size, at * self._size) for at in documents.tolist()]
        bytes_ = np.frombuffer(b"".join(rows), np.uint8).reshape(
            len(documents), self.dedup.bands, 8
        )
        bytes_ = bytes_[:, :, : self.dedup.rows]
        same = (bytes_[index[: len(first)]] == bytes_[index[len(first) :]]).mean((1, 2))
        return (same - 1 / 256) / (1 - 1 / 256) >= self.dedup.threshold


def _across(bands: Hashes, rows: int) -> Hashes:
    """The minima of `bands [documents, bands]`, each a byte, in as many bands of others: all first
    minima, then all second ones, in groups of `rows`."""
    documents, count = bands.shape
    bytes_ = bands.astype("<u8").view(np.uint8).reshape(documents, count, 8)[:, :, :rows]
    across = np.zeros((documents, count, 8), np.uint8)
    across[:, :, :rows] = bytes_.transpose(0, 2, 1).reshape(documents, count, rows)
    return across.view("<u8").astype(np.uint64).reshape(documents, count)


def _link_alike(signatures: _Signatures, links: Links, scratch: Path, number: int) -> None:
    """Link documents that agree in one of a few bands and are alike in all of them."""
    last = min(2 * signatures.dedup.bands, (number + 1) * _COLUMNS)
    columns = range(number * _COLUMNS, last)
    spill = Spill(scratch, signatures.total * len(columns))
    for keys, ranks in signatures.keys(columns):
        spill.add(keys, ranks)
    for place in range(spill.count):
        for again, first, before in repeats(spill.blocks(place)):
            _link(signatures, links, again, first)
            _link(signatures, links, again, before)


def _link(signatures: _Signatures, links: Links, first: Numbers, second: Numbers) -> None:
    """Link the pairs that are alike, unless something links them already."""
    for start in range(0, len(first), _PAIRS):
        one, other = first[start : start + _PAIRS], second[start : start + _PAIRS]
        apart = links.apart(one, other)
        one, other = one[apart], other[apart]
        alike = signatures.alike(one, other)
        links.add(one[alike], other[alike])
