"""The pages of a source: hashes and sizes in memory, the text read from disk when needed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glam.data.hashing import text_hash
from glam.data.text import pages

VERSION = 1  # of how text is cut


@dataclass(frozen=True, eq=False)
class PagedSource:
    """The training pages of one source in fixed order: `owners`, the hash of each page's document,
    `hashes` of the pages and their UTF-8 bytes, all `[pages]`."""

    name: str
    owners: NDArray[np.uint64]
    hashes: NDArray[np.uint64]
    num_bytes: NDArray[np.int64]
    texts: Callable[[], Iterator[str]]


def paged(
    name: str, owners: NDArray[np.uint64], documents: Callable[[], Iterator[str]], limit: int
) -> PagedSource:
    """Cut `documents`, whose hashes are `owners`, into pages of at most `limit` characters."""

    def texts() -> Iterator[str]:
        for text in documents():
            yield from pages(text, limit)

    rows = [
        (owner, text_hash(page), len(page.encode()))
        for owner, text in zip(owners.tolist(), documents(), strict=True)
        for page in pages(text, limit)
    ]
    return PagedSource(
        name=name,
        owners=np.array([row[0] for row in rows], np.uint64),
        hashes=np.array([row[1] for row in rows], np.uint64),
        num_bytes=np.array([row[2] for row in rows], np.int64),
        texts=texts,
    )
