"""The quality filter's stages: a classifier fitted on a sample, the scores of each shard's pages,
and the scores of the whole pool in counts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glam.config import FilterConfig
from glam.data.classifier import MANY, SAMPLE, Classifier, Folds, batches, by_draw, deal, fit, score
from glam.data.classifier_file import (
    FOLDER,
    WEIGHTS,
    TrainedOn,
    load_classifier,
    save_classifier,
    write_weights,
)
from glam.data.executor import advance
from glam.data.pages import Pages
from glam.data.quality import (
    Ranks,
    area_under_curve,
    count_scores,
    merge_counts,
    rounded,
    write_ranks,
)
from glam.data.sample import lowest
from glam.data.shards import Shard
from glam.errors import UserError

QUALITY = "quality.json"
_POOL_DEAL = "pool.npy"
_COUNTS = "counts.npz"


@dataclass(frozen=True, eq=False)
class Deal:
    """The fold of each document of a class. The hashes of few documents are known, and folds are of
    even size; of many documents the fold follows from the draw alone."""

    documents: NDArray[np.uint64] | None  # ascending; None: too many
    folds: int
    seed: int

    @classmethod
    def of_class(cls, pages: Sequence[Pages], folds: int, seed: int) -> "Deal":
        known = np.zeros(0, np.uint64)
        for each in pages:
            known = np.union1d(known, each.owners)
            if len(known) > MANY:
                return cls(None, folds, seed)
        return cls(known, folds, seed)

    def of(self, owners: NDArray[np.uint64]) -> Folds:
        """The folds of documents with these hashes."""
        if self.documents is None:
            return by_draw(owners, self.folds, self.seed)
        every = deal(self.documents, self.folds, self.seed)
        return every[np.searchsorted(self.documents, owners)]

    def save(self, path: Path) -> None:
        np.save(path, np.zeros(0, np.uint64) if self.documents is None else self.documents)

    @classmethod
    def read(cls, path: Path, folds: int, seed: int) -> "Deal":
        documents: NDArray[np.uint64] = np.load(path)
        return cls(documents if len(documents) else None, folds, seed)


def write_classifier(
    folder: Path, config: FilterConfig, curated: Sequence[Pages], pool: Sequence[Pages], seed: int
) -> None:
    """Fit the classifier on the pages of lowest draws of both classes."""
    good, web = (Deal.of_class(each, config.folds, seed) for each in (curated, pool))
    samples = _sample(curated, good, seed), _sample(pool, web, seed)
    classifier = fit(config, *samples)
    write_weights(folder / WEIGHTS, classifier)
    web.save(folder / _POOL_DEAL)
    _save_counts(folder, score(classifier, *samples[0]))


def write_given(folder: Path, classifier: Classifier) -> None:
    """Keep a classifier that was trained elsewhere."""
    write_weights(folder / WEIGHTS, classifier)


def _sample(shards: Sequence[Pages], dealt: Deal, seed: int) -> tuple[list[str], Folds]:
    """Pages of a class to learn from, in the order in which they were read, and their folds."""
    chosen = lowest(shards, "classifier", seed, SAMPLE, in_bytes=False)
    texts = [
        text for pages, places in zip(shards, chosen, strict=True) for text in pages.texts(places)
    ]
    owners = [pages.owners[places] for pages, places in zip(shards, chosen, strict=True)]
    return texts, dealt.of(np.concatenate(owners))


def write_scores(folder: Path, pages: Pages, classifier: Path, seed: int) -> None:
    """Score every page of a shard by the classifiers that were not trained on its document."""
    judge = load_classifier(classifier)
    folds = Deal.read(classifier / _POOL_DEAL, judge.folds, seed).of(pages.owners)
    _score(folder, pages, judge, folds)


def write_given_scores(folder: Path, pages: Pages, classifier: Path) -> None:
    """Score every page of a shard by a classifier that was trained elsewhere."""
    judge = load_classifier(classifier).mean()
    _score(folder, pages, judge, np.zeros(len(pages.hashes), np.intp))


def write_published_scores(folder: Path, pages: Pages, shard: Path, domain: str) -> None:
    """Pages with the scores that their documents came with. Those without come last."""
    scores = Shard(shard).scores
    if scores is None:
        raise UserError(
            f"data.filter.scores=published but {domain} has text without any score; leave its "
            f"files or data.filter.scores out"
        )
    found = rounded(scores[pages.documents])
    _save_scores(folder, np.where(np.isnan(found), -np.inf, found))


def _score(folder: Path, pages: Pages, judge: Classifier, folds: Folds) -> None:
    scores, done = np.zeros(len(folds)), 0
    for batch in batches(pages.texts()):
        end = done + len(batch)
        scores[done:end] = score(judge, batch, folds[done:end])
        advance(sum(map(len, batch)))
        done = end
    _save_scores(folder, scores)


def write_pool_ranks(folder: Path, scores: Sequence[Path]) -> Ranks:
    """Merge the counts of a pool's shards."""
    ranks = merge_counts(_counts(each) for each in scores)
    write_ranks(folder, ranks)
    return ranks


def write_card(
    folder: Path, classifier: Path, ranks: Ranks, trained_on: list[TrainedOn], seed: int
) -> None:
    """Write the classifier with its card, which tells how well it parts the pool from the curated
    pages that the classifiers of the other folds learnt from."""
    auc = area_under_curve(_counts(classifier), (ranks.values, ranks.counts))
    save_classifier(folder / FOLDER, load_classifier(classifier), auc, trained_on, seed)
    (folder / QUALITY).write_text(json.dumps({"auc": auc}))


def _save_scores(folder: Path, scores: NDArray[np.float64]) -> None:
    """`scores.npy [pages]`, and how many have each score."""
    np.save(folder / "scores.npy", scores)
    _save_counts(folder, scores)


def _save_counts(folder: Path, scores: NDArray[np.float64]) -> None:
    values, counts = count_scores(scores)
    np.savez(folder / _COUNTS, values=values, counts=counts)


def _counts(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    with np.load(folder / _COUNTS) as file:
        return file["values"], file["counts"]
