"""Which pages the filter keeps, from their scores: ranks, then Pareto sampling (paper section 3;
the rule as GPT-3 published it), or a threshold for comparison."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glam.config import FilterConfig

VERSION = 2  # of the scores, and of the classifier that gives them

_TOGETHER = 1 << 22  # distinct scores that are merged at once
_PRECISION = 2.0**16  # of published scores


@dataclass(frozen=True, eq=False)
class Quality:
    """What the classifier found: `scores[source] [pages]`, the probability of being curated, and
    the area under its ROC curve on pages it did not train on; of one that was given None."""

    scores: dict[str, NDArray[np.float64]]
    auc: float | None


Counts = tuple[NDArray[np.float64], NDArray[np.int64]]


def count_scores(scores: NDArray[np.floating]) -> Counts:
    """The distinct scores in ascending order, and how many pages have each."""
    values, counts = np.unique(scores.astype(np.float64), return_counts=True)
    return values, counts.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Ranks:
    """The distinct scores of a whole pool in ascending order, and how many pages have each."""

    values: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def pages(self) -> int:
        return int(self.counts.sum())

    def rank(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Percentile of each score, one of `values`, within the whole pool, in (0, 1); equal
        scores get their mean. Most raw scores are near 0, where Pareto sampling keeps almost
        nothing."""
        ranks = (np.cumsum(self.counts) - self.counts / 2) / self.pages
        return ranks[np.searchsorted(self.values, scores)]


def write_ranks(folder: Path, ranks: Ranks) -> None:
    """Keep the ranks in `folder`."""
    np.save(folder / "values.npy", ranks.values)
    np.save(folder / "counts.npy", ranks.counts)


def read_ranks(folder: Path) -> Ranks:
    """The ranks that `write_ranks` left in `folder`."""
    return Ranks(np.load(folder / "values.npy"), np.load(folder / "counts.npy"))


def merge_counts(parts: Iterable[Counts]) -> Ranks:
    """The counts of a whole pool from those of its shards: in memory are the distinct scores, of
    which `rounded` leaves some millions, whatever the number of pages."""
    merged: Counts = np.zeros(0), np.zeros(0, np.int64)
    waiting: list[Counts] = []
    for part in parts:
        waiting.append(part)
        if sum(len(values) for values, _ in waiting) > max(_TOGETHER, len(merged[0])):
            merged = _summed([merged, *waiting])
            waiting.clear()
    return Ranks(*_summed([merged, *waiting]))


def _summed(parts: list[Counts]) -> Counts:
    values, place = np.unique(np.concatenate([each for each, _ in parts]), return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, place, np.concatenate([each for _, each in parts]))
    return values, counts


def calibrated(scores: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[np.float64]]:
    """Scores by source as their ranks within the whole pool."""
    ranks = merge_counts(count_scores(each) for each in scores.values())
    return {name: ranks.rank(each) for name, each in scores.items()}


def rounded(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Published scores with the leading 16 bits of each, of which few are distinct."""
    mantissa, exponent = np.frexp(scores.astype(np.float64))
    return np.ldexp(np.rint(mantissa * _PRECISION) / _PRECISION, exponent)


def area_under_curve(curated: Counts, pool: Counts) -> float:
    """The area under the ROC curve of scores: how often a page of curated text has a higher one
    than a page of the pool, equal scores counted half."""
    values, counts = pool
    below = np.concatenate([[0], np.cumsum(counts)])
    left, right = (np.searchsorted(values, curated[0], side) for side in ("left", "right"))
    better = (below[left] + below[right]) / 2
    return float(better @ curated[1] / (counts.sum() * curated[1].sum()))


def keeps(
    scores: NDArray[np.floating], draws: NDArray[np.float64], config: FilterConfig
) -> NDArray[np.bool_]:
    """Which pages are kept `[pages]`, by `scores [pages]` and uniform `draws [pages]` in [0, 1)."""
    if config.name == "threshold":
        return scores > config.threshold
    return pareto_keeps(scores, draws, config.alpha)


def pareto_keeps(
    scores: NDArray[np.floating], draws: NDArray[np.float64], alpha: float
) -> NDArray[np.bool_]:
    """Keep a page when its Lomax(alpha) draw exceeds 1 - score, which has probability
    (2 - score) ** -alpha. `draws` are uniform on [0, 1), one a page."""
    with np.errstate(over="ignore"):  # of a tiny alpha draws have no end
        lomax = (1 - draws) ** (-1 / alpha) - 1
    return lomax > 1 - scores
