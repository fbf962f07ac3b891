"""Judges every page of the pool: a classifier fitted on a sample of both classes, or one that is
given. Memory is constant: the classifiers learn from a sample, and the pool is scored batch by
batch."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.config import FilterConfig
from glam.data.classifier import SAMPLE, Classifier, Floats, Folds, batches, deal, fit, score
from glam.data.classifier_file import FOLDER, TrainedOn, save_classifier
from glam.data.hashing import uniform
from glam.data.pages import PagedSource
from glam.data.quality import area_under_curve, count_scores
from glam.progress import Bar, bar


@dataclass(frozen=True, eq=False)
class _Class:
    """All pages of one class: fold, and whether sampled for training `[pages]`."""

    sources: Sequence[PagedSource]
    folds: Folds
    sampled: NDArray[np.bool_]

    def texts(self) -> Iterator[str]:
        for source in self.sources:
            yield from source.texts()

    def sample(self) -> tuple[list[str], Folds]:
        """The pages to train on and their folds."""
        return list(compress(self.texts(), self.sampled)), self.folds[self.sampled]

    def by_source(self, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """An array over all pages as one of each source."""
        ends = np.cumsum([len(source.hashes) for source in self.sources])
        names = [source.name for source in self.sources]
        return dict(zip(names, np.split(values, ends[:-1]), strict=True))


def write_quality(
    folder: Path,
    config: FilterConfig,
    curated: Sequence[PagedSource],
    pool: Sequence[PagedSource],
    seed: int,
    licenses: Mapping[str, str],
) -> None:
    """Score every page of `pool` by classifiers that tell it from `curated`; they are kept beside
    the scores, with their card, which names the `licenses` of sources."""
    good, web = (_class_of(sources, config.folds, seed) for sources in (curated, pool))
    total = int(good.sampled.sum() + web.sampled.sum()) + len(web.folds)
    with bar("quality classifier", total, "pages") as running:
        sample = good.sample()
        classifier = fit(config, sample, web.sample(), running)
        scores = np.concatenate(list(_scores(classifier, web, running)))
    auc = area_under_curve(count_scores(score(classifier, *sample)), count_scores(scores))
    trained_on = [
        TrainedOn(
            source=source.name,
            role=role,
            documents=len(np.unique(source.owners)),
            pages=len(source.hashes),
            license=licenses.get(source.name, ""),
        )
        for role, sources in (("curated", curated), ("pool", pool))
        for source in sources
    ]
    save_classifier(folder / FOLDER, classifier, auc, trained_on, seed)
    _save(folder / "scores.npz", web.by_source(scores))
    _save(folder / "folds.npz", good.by_source(good.folds) | web.by_source(web.folds))
    (folder / "quality.json").write_text(json.dumps({"auc": auc}))


def write_given_quality(folder: Path, given: Classifier, pool: Sequence[PagedSource]) -> None:
    """Score every page of `pool` by a classifier that was trained elsewhere."""
    folds = np.zeros(sum(len(source.hashes) for source in pool), np.intp)
    web = _Class(pool, folds, np.zeros(len(folds), bool))
    with bar("quality classifier", len(folds), "pages") as running:
        scores = np.concatenate(list(_scores(given.mean(), web, running)))
    _save(folder / "scores.npz", web.by_source(scores))
    (folder / "quality.json").write_text(json.dumps({"auc": None}))


def _class_of(sources: Sequence[PagedSource], folds: int, seed: int) -> _Class:
    """Deals whole documents into folds, and draws the sample: both by hash, so that the order of
    the corpus does not matter."""
    owners = np.concatenate([source.owners for source in sources])
    documents, document = np.unique(owners, return_inverse=True)
    draws = uniform(np.concatenate([source.hashes for source in sources]), seed, "classifier")
    sampled = np.zeros(len(draws), bool)
    sampled[np.argsort(draws, kind="stable")[:SAMPLE]] = True
    return _Class(sources, deal(documents, folds, seed)[document], sampled)


def _scores(classifier: Classifier, web: _Class, running: Bar) -> Iterator[Floats]:
    done = 0
    for batch in batches(web.texts()):
        end = done + len(batch)
        yield score(classifier, batch, web.folds[done:end])
        running.advance(len(batch))
        done = end


def _save(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Arrays by number with their names beside: as keywords, a source called `file` would clash."""
    numbered: dict[str, Any] = {f"a{i}": array for i, array in enumerate(arrays.values())}
    np.savez(path, names=np.array(list(arrays)), **numbered)
