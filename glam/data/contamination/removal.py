"""What is left out of training: pages, or whole curated documents, with an n-gram of an evaluation
item that is no common phrase."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from glam.data.scan import NgramTable, ngram_hashes, word_hashes


def dirty_pages(pages: Sequence[str], table: NgramTable) -> NDArray[np.bool_]:
    """Which pages of a document have a word of an n-gram of `table` `[pages]`: of one that goes
    over the end of a page, both."""
    words = [word_hashes(page) for page in pages]
    page_of = np.repeat(np.arange(len(pages)), list(map(len, words)))
    dirty = np.zeros(len(pages), bool)
    for first, last in _found(np.concatenate(words), table):
        dirty[page_of[first] : page_of[last] + 1] = True
    return dirty


def _found(words: NDArray[np.uint64], table: NgramTable) -> Iterator[tuple[int, int]]:
    """First and last word of each n-gram of the table."""
    for n in table.sizes:
        for first in np.flatnonzero(table.holds(ngram_hashes(words, n))).tolist():
            yield first, first + n - 1
