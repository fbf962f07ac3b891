"""Scores the pool's pages: a linear classifier on hashed n-grams, curated against pool.

Cross-fitted: documents are dealt into folds, and each page is scored by the classifier of the
folds that its document is not in, so no page is scored by a classifier trained on it. Memory is
constant: the classifiers learn from a sample, and the pool is scored batch by batch.
"""

# pyright: reportMissingTypeStubs=false
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn import metrics
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from glam.config import FilterConfig
from glam.data.hashing import uniform
from glam.data.pages import PagedSource
from glam.progress import Bar, bar

_SAMPLE = 10_000  # pages of each class that the classifiers learn from
_BATCH = 1_000  # pages hashed at once

Floats = NDArray[np.float64]
Folds = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class _Class:
    """All pages of one class: fold, and whether sampled for training `[pages]`."""

    sources: Sequence[PagedSource]
    folds: Folds
    sampled: NDArray[np.bool_]

    def texts(self) -> Iterator[str]:
        for source in self.sources:
            yield from source.texts()

    def by_source(self, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """An array over all pages as one of each source."""
        ends = np.cumsum([len(source.hashes) for source in self.sources])
        names = [source.name for source in self.sources]
        return dict(zip(names, np.split(values, ends[:-1]), strict=True))


@dataclass(frozen=True, eq=False)
class _Classifiers:
    """One linear classifier per fold, trained on the other folds: `weights [folds, features]`."""

    weights: Floats
    bias: Floats

    def score(self, features: Any, folds: Folds) -> Floats:
        """Probability of being curated `[pages]`, each by the classifier of its fold."""
        logits = features @ self.weights.T + self.bias
        return 1 / (1 + np.exp(-logits[np.arange(len(folds)), folds]))


def write_quality(
    folder: Path,
    config: FilterConfig,
    curated: Sequence[PagedSource],
    pool: Sequence[PagedSource],
    seed: int,
) -> None:
    """Score every page of `pool`; the classifier is kept as plain arrays beside the scores."""
    good, web = (_class_of(sources, config.folds, seed) for sources in (curated, pool))
    hashed = _Hasher(config)
    total = int(good.sampled.sum() + web.sampled.sum()) + len(web.folds)
    with bar("quality classifier", total, "pages") as running:
        x_good = hashed.all(compress(good.texts(), good.sampled), running)
        x_web = hashed.all(compress(web.texts(), web.sampled), running)
        fold_good, fold_web = good.folds[good.sampled], web.folds[web.sampled]
        classifiers = _fit(x_good, fold_good, x_web, fold_web, config.folds)
        scores = _score_all(classifiers, web.folds, hashed.batches(web.texts(), running))
    auc = _auc(classifiers.score(x_good, fold_good), scores)
    np.savez(folder / "classifier.npz", weights=classifiers.weights, bias=classifiers.bias)
    _save(folder / "scores.npz", web.by_source(scores.astype(np.float32)))
    _save(folder / "folds.npz", good.by_source(good.folds) | web.by_source(web.folds))
    (folder / "quality.json").write_text(json.dumps({"auc": auc}))


def _class_of(sources: Sequence[PagedSource], folds: int, seed: int) -> _Class:
    """Deals whole documents into folds of even size, and draws the sample: both by hash, so that
    the order of the corpus does not matter."""
    owners = np.concatenate([source.owners for source in sources])
    documents, document = np.unique(owners, return_inverse=True)
    dealt = np.argsort(np.argsort(uniform(documents, seed, "folds"))) % folds
    draws = uniform(np.concatenate([source.hashes for source in sources]), seed, "classifier")
    sampled = np.zeros(len(draws), bool)
    sampled[np.argsort(draws, kind="stable")[:_SAMPLE]] = True
    return _Class(sources, dealt[document], sampled)


class _Hasher:
    """Pages to sparse rows of hashed n-grams `[pages, features]`."""

    def __init__(self, config: FilterConfig) -> None:
        vectorizer: Any = HashingVectorizer  # scikit-learn comes without types
        self._vectorizer: Any = vectorizer(
            n_features=config.num_features, ngram_range=(1, config.ngrams), dtype=np.float32
        )

    def batches(self, texts: Iterable[str], running: Bar) -> Iterator[Any]:
        pages = iter(texts)
        while batch := list(islice(pages, _BATCH)):
            yield self._vectorizer.transform(batch)
            running.advance(len(batch))

    def all(self, texts: Iterable[str], running: Bar) -> Any:
        return _stack(list(self.batches(texts, running)))


def _fit(x_good: Any, good: Folds, x_web: Any, web: Folds, folds: int) -> _Classifiers:
    weights: list[Floats] = []
    bias: list[float] = []
    for fold in range(folds):
        x = _stack([x_good[good != fold], x_web[web != fold]])
        truth = np.repeat([1, 0], [(good != fold).sum(), (web != fold).sum()])
        # liblinear's primal solver draws nothing at random.
        model: Any = LogisticRegression(solver="liblinear", class_weight="balanced")
        model.fit(x, truth)
        weights.append(model.coef_[0])
        bias.append(model.intercept_[0])
    return _Classifiers(np.array(weights), np.array(bias))


def _score_all(classifiers: _Classifiers, folds: Folds, batches: Iterable[Any]) -> Floats:
    scores: list[Floats] = []
    done = 0
    for features in batches:
        end = done + features.shape[0]
        scores.append(classifiers.score(features, folds[done:end]))
        done = end
    return np.concatenate(scores)


def _auc(curated: Floats, pool: Floats) -> float:
    truth = np.repeat([1, 0], [len(curated), len(pool)])
    library: Any = metrics
    return float(library.roc_auc_score(truth, np.concatenate([curated, pool])))


def _stack(rows: list[Any]) -> Any:
    library: Any = sparse
    return library.vstack(rows)


def _save(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Arrays by number with their names beside: as keywords, a source called `file` would clash."""
    numbered: dict[str, Any] = {f"a{i}": array for i, array in enumerate(arrays.values())}
    np.savez(path, names=np.array(list(arrays)), **numbered)
