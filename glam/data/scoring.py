"""Products of a page's hashed n-grams with a classifier's weights, in whole numbers.

N-grams are those of scikit-learn's HashingVectorizer: words of two and more letters, digits or _
in lower case, by MurmurHash3 with alternating signs. Counts and weights are whole numbers, so that
no order of summation, no compiler and no fallback gives other sums.
"""

# pyright: reportMissingTypeStubs=false
import re
import sys
from collections.abc import Sequence
from ctypes import c_char_p, c_int64, c_void_p
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.kernels import text_library

Products = tuple[NDArray[np.int64], NDArray[np.int64]]


def products(
    pages: Sequence[str], weights: NDArray[np.int32], folds: NDArray[np.integer], ngrams: int
) -> Products:
    """For each page the product of its counts of n-grams (`ngrams` words at most) with the weights
    of its fold, of `weights [folds, features]`; and the sum of its squared counts. Both
    `[pages]`."""
    library = text_library()
    if library is None:
        return _by_scikit_learn(pages, weights, folds, ngrams)
    return _by_kernel(library.page_scores, pages, weights, folds, ngrams)


def _by_kernel(
    kernel: Any,
    pages: Sequence[str],
    weights: NDArray[np.int32],
    folds: NDArray[np.integer],
    ngrams: int,
) -> Products:
    text, ends = _lowered(pages)
    weights = np.ascontiguousarray(weights, np.int32)
    folds = np.ascontiguousarray(folds, np.int64)
    made = np.zeros(len(pages), np.int64), np.zeros(len(pages), np.int64)
    kernel.argtypes = [*_TEXT, *[c_void_p] * 2, *[c_int64] * 2, *[c_void_p] * 2]
    failed = kernel(
        *(text, ends.ctypes.data, len(pages), _letters().ctypes.data),
        *(weights.ctypes.data, folds.ctypes.data, weights.shape[1], ngrams),
        *(made[0].ctypes.data, made[1].ctypes.data),
    )
    if failed:
        raise MemoryError("no memory to score a page")
    return made


_TEXT = (c_char_p, c_void_p, c_int64, c_void_p)  # of a kernel, the first arguments


def _lowered(pages: Sequence[str]) -> tuple[bytes, NDArray[np.int64]]:
    """Pages in lower case end to end, and where each ends."""
    lowered = [page.lower().encode() for page in pages]
    return b"".join(lowered), np.cumsum([len(page) for page in lowered], dtype=np.int64)


def normalised(pages: Sequence[str], num_features: int, ngrams: int) -> Any:
    """Sparse rows `[pages, features]` in float32: the counts of a page's hashed n-grams, by the
    root of the sum of their squares."""
    library = text_library()
    if library is None:
        return vectorizer(num_features, ngrams, dtype=np.float32).transform(pages)
    from scipy import sparse
    from sklearn import preprocessing

    signed, ends = _features(library.page_features, pages, num_features, ngrams)
    values = np.float32(1) - 2 * (signed & 1).astype(np.float32)
    scipy: Any = sparse
    sklearn: Any = preprocessing  # both come without types
    parts = values, (signed >> 1).astype(np.int32), np.append(0, ends).astype(np.int32)
    rows = scipy.csr_matrix(parts, shape=(len(pages), num_features))
    rows.sum_duplicates()
    return sklearn.normalize(rows, copy=False)


def _features(
    kernel: Any, pages: Sequence[str], num_features: int, ngrams: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Of each n-gram its feature twice, and 1 more where its sign is negative; and where the
    n-grams of each page end."""
    text, ends = _lowered(pages)
    found = np.empty((len(text) // 3 + len(pages)) * ngrams, np.uint32)
    found_ends = np.zeros(len(pages), np.int64)
    kernel.argtypes = [*_TEXT, *[c_int64] * 2, *[c_void_p] * 2]
    failed = kernel(
        *(text, ends.ctypes.data, len(pages), _letters().ctypes.data),
        *(num_features, ngrams, found.ctypes.data, found_ends.ctypes.data),
    )
    if failed:
        raise MemoryError("no memory for the features of a page")
    return found[: found_ends[-1]], found_ends


@cache
def _letters() -> NDArray[np.uint8]:
    """A bit for each code point: whether a word may hold it."""
    found = np.zeros(sys.maxunicode + 1, np.uint8)
    for run in re.finditer(r"\w+", "".join(map(chr, range(len(found))))):
        found[slice(*run.span())] = 1
    return np.packbits(found, bitorder="little")


def _by_scikit_learn(
    pages: Sequence[str], weights: NDArray[np.int32], folds: NDArray[np.integer], ngrams: int
) -> Products:
    counts = vectorizer(weights.shape[1], ngrams, norm=None, dtype=np.int64).transform(pages)
    every = np.asarray(counts @ weights.T.astype(np.int64))
    squares = np.asarray(counts.multiply(counts).sum(axis=1), np.int64).reshape(-1)
    return every[np.arange(len(pages)), folds], squares


@cache
def vectorizer(num_features: int, ngrams: int, **options: Any) -> Any:
    """scikit-learn's HashingVectorizer, imported late: it takes a second."""
    from sklearn.feature_extraction.text import HashingVectorizer

    library: Any = HashingVectorizer  # scikit-learn comes without types
    return library(n_features=num_features, ngram_range=(1, ngrams), **options)
