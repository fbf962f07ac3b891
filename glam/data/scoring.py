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
    lowered = [page.lower().encode() for page in pages]
    ends = np.cumsum([len(page) for page in lowered], dtype=np.int64)
    weights = np.ascontiguousarray(weights, np.int32)
    folds = np.ascontiguousarray(folds, np.int64)
    made = np.zeros(len(lowered), np.int64), np.zeros(len(lowered), np.int64)
    kernel.argtypes = [
        c_char_p,
        c_void_p,
        c_int64,
        *[c_void_p] * 3,
        *[c_int64] * 2,
        *[c_void_p] * 2,
    ]
    failed = kernel(
        *(b"".join(lowered), ends.ctypes.data, len(lowered), _letters().ctypes.data),
        *(weights.ctypes.data, folds.ctypes.data, weights.shape[1], ngrams),
        *(made[0].ctypes.data, made[1].ctypes.data),
    )
    if failed:
        raise MemoryError("no memory to score a page")
    return made


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
