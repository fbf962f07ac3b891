"""Scores pages: a linear classifier on hashed n-grams, curated text against the pool.

Cross-fitted: documents are dealt into folds, and each page is scored by the classifier of the
folds that its document is not in, so no page is scored by a classifier trained on it.
"""

# pyright: reportMissingTypeStubs=false
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.config import FilterConfig
from glam.data.executor import advance
from glam.data.hashing import uniform
from glam.data.scoring import normalised, products

SAMPLE = 10_000  # pages of each class that the classifiers learn from
MANY = 1 << 20  # documents of a class; the draws of more are not ranked
_BATCH = 1_000  # pages hashed at once
_STEPS = 2.0**16  # of a score's logit: at most some millions of scores are distinct

Floats = NDArray[np.float64]
Folds = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Classifier:
    """One linear classifier per fold, trained on the other folds. Weights are whole numbers of
    `2 ** -exponent`, so that sums over them are exact."""

    weights: NDArray[np.int32]  # [folds, features]
    bias: Floats  # [folds]
    exponent: int
    ngrams: int  # [words] longest n-gram that is a feature

    @property
    def folds(self) -> int:
        return len(self.bias)

    @property
    def num_features(self) -> int:
        return self.weights.shape[1]

    @classmethod
    def rounded(cls, weights: Floats, bias: Floats, ngrams: int) -> "Classifier":
        """Of real weights `[folds, features]`, with 30 bits for the largest."""
        largest = max(float(np.abs(weights).max()), 2.0**-30)
        exponent = min(24, 30 - int(np.ceil(np.log2(largest))))
        return cls(np.rint(weights * 2.0**exponent).astype(np.int32), bias, exponent, ngrams)

    def mean(self) -> "Classifier":
        """The folds' mean as one classifier, for pages that none of them was trained on."""
        weights = self.weights.astype(np.float64).mean(0, keepdims=True)
        return Classifier(
            np.rint(weights).astype(np.int32),
            self.bias.mean(keepdims=True),
            self.exponent,
            self.ngrams,
        )


def score(classifier: Classifier, pages: Sequence[str], folds: Folds) -> Floats:
    """Probability of being curated `[pages]`, each by the classifier of its fold.

    The logit is rounded: pages have equal scores on every machine, and the scores of any number of
    pages are few enough to be counted."""
    product, squares = products(pages, classifier.weights, folds, classifier.ngrams)
    length = np.sqrt(np.maximum(squares, 1))
    logits = product * 2.0**-classifier.exponent / length + classifier.bias[folds]
    logits = np.rint(logits * _STEPS) / _STEPS
    # As float32, so that no machine's exponential function shows.
    return (1 / (1 + np.exp(-logits))).astype(np.float32).astype(np.float64)


def fit(
    config: FilterConfig,
    good: tuple[Sequence[str], Folds],
    web: tuple[Sequence[str], Folds],
) -> Classifier:
    """Classifiers that tell pages of curated text, `good`, from pages of the pool, `web`: each the
    pages with the folds of their documents."""
    features = _features(config, good[0]), _features(config, web[0])
    weights, bias = _fit(features, (good[1], web[1]), config.folds)
    return Classifier.rounded(weights, bias, config.ngrams)


def _features(config: FilterConfig, pages: Sequence[str]) -> Any:
    """Sparse rows of hashed n-grams of length 1 `[pages, features]`."""
    from scipy import sparse

    rows: list[Any] = []
    for batch in batches(pages):
        rows.append(normalised(batch, config.num_features, config.ngrams))
        advance(len(batch))
    library: Any = sparse
    return library.vstack(rows)


def _fit(
    features: tuple[Any, Any], dealt: tuple[Folds, Folds], folds: int
) -> tuple[Floats, Floats]:
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    library: Any = sparse
    weights: list[Floats] = []
    bias: list[float] = []
    for fold in range(folds):
        chosen = [each != fold for each in dealt]
        x = library.vstack([rows[each] for rows, each in zip(features, chosen, strict=True)])
        truth = np.repeat([1, 0], [each.sum() for each in chosen])
        # liblinear's primal solver draws nothing at random.
        model: Any = LogisticRegression(solver="liblinear", class_weight="balanced")
        model.fit(x, truth)
        weights.append(model.coef_[0])
        bias.append(model.intercept_[0])
    return np.array(weights), np.array(bias)


def deal(documents: NDArray[np.uint64], folds: int, seed: int) -> Folds:
    """The fold of each document `[documents]` of a class, by their distinct hashes: folds are of
    even size, by the ranks of the draws. Where there are too many to rank, see `by_draw`."""
    if len(documents) > MANY:
        return by_draw(documents, folds, seed)
    return np.argsort(np.argsort(uniform(documents, seed, "folds"))) % folds


def by_draw(documents: NDArray[np.uint64], folds: int, seed: int) -> Folds:
    """The fold of each document `[documents]` by its hash alone, whatever else there is."""
    return (uniform(documents, seed, "folds") * folds).astype(np.intp)


def batches(pages: Iterable[str]) -> Iterator[list[str]]:
    """As many pages as are hashed at once."""
    every = iter(pages)
    while batch := list(islice(every, _BATCH)):
        yield batch
