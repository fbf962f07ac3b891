"""The training pages of a shard: hashes and sizes on disk, the text cut anew when it is needed.

hashes.npy     uint64 [pages]
num_bytes.npy  int64 [pages], of UTF-8
documents.npy  int64 [pages], the place of each page's document in its shard, ascending
counts.json    pages, characters, bytes
"""

import json
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glam.data.executor import advance
from glam.data.hashing import text_hash
from glam.data.shards import Shard
from glam.data.split import Sides
from glam.data.text import pages
from glam.data.tokens import mapped_array

VERSION = 1  # of how text is cut


class Pages:
    """The pages of a shard, in the folder where `write_pages` left them. Arrays are mapped and not
    held: a corpus has as many of these as shards, all at once."""

    def __init__(self, folder: Path, shard: Path, limit: int) -> None:
        self._folder, self._shard, self._limit = folder, shard, limit

    @property
    def hashes(self) -> NDArray[np.uint64]:
        return mapped_array(self._folder / "hashes.npy")

    @property
    def num_bytes(self) -> NDArray[np.int64]:
        return mapped_array(self._folder / "num_bytes.npy")

    @property
    def documents(self) -> NDArray[np.int64]:
        return mapped_array(self._folder / "documents.npy")

    @property
    def counts(self) -> list[int]:
        """Pages, characters and bytes."""
        return json.loads((self._folder / "counts.json").read_text())

    @property
    def owners(self) -> NDArray[np.uint64]:
        """The hash of each page's document `[pages]`."""
        return Shard(self._shard).hashes[self.documents]

    def texts(self, chosen: NDArray[np.integer] | None = None) -> Iterator[str]:
        """All pages, or those with these ascending places: only their documents are read."""
        if chosen is None:
            for text in Shard(self._shard).texts(np.unique(self.documents)):
                yield from pages(text, self._limit)
            return
        every = self.documents
        documents, first = np.unique(every[chosen], return_index=True)
        wanted = np.split(chosen - np.searchsorted(every, every[chosen]), first)
        for text, numbers in zip(Shard(self._shard).texts(documents), wanted[1:], strict=True):
            cut = list(pages(text, self._limit))
            yield from (cut[number] for number in numbers.tolist())


def write_pages(folder: Path, shard: Path, sides: Path, limit: int) -> None:
    """Cut a shard's training documents into pages of at most `limit` characters."""
    hashes, num_bytes, documents = array("Q"), array("q"), array("q")
    characters = 0
    training = Sides.read(sides).training
    for document, text in zip(training.tolist(), Shard(shard).texts(training), strict=True):
        for page in pages(text, limit):
            hashes.append(text_hash(page))
            num_bytes.append(len(page) if page.isascii() else len(page.encode()))
            documents.append(document)
            characters += len(page)
        advance(len(text))
    for name, values, kind in (
        ("hashes", hashes, np.uint64),
        ("num_bytes", num_bytes, np.int64),
        ("documents", documents, np.int64),
    ):
        np.save(folder / f"{name}.npy", np.array(values, kind))
    counts = [len(hashes), characters, sum(num_bytes)]
    (folder / "counts.json").write_text(json.dumps(counts))
