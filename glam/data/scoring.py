"""Products of a page's hashed n-grams with a classifier's weights, in whole numbers.

N-grams are those of scikit-learn's HashingVectorizer: words of two and more letters, digits or _
in lower case, by MurmurHash3 with alternating signs. Counts and weights are whole numbers, so that
no order of summation, no compiler and no fallback gives other sums.
"""

# pyright: reportMissingTypeStubs=false
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Products = tuple[NDArray[np.int64], NDArray[np.int64]]


def products(
    pages: Sequence[str], weights: NDArray[np.int32], folds: NDArray[np.integer], ngrams: int
) -> Products:
    """For each page the product of its counts of n-grams (`ngrams` words at most) with the weights
    of its fold, of `weights [folds, features]`; and the sum of its squared counts. Both
    `[pages]`."""
    return _by_scikit_learn(pages, weights, folds, ngrams)


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
