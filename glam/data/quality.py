"""Which pages the filter keeps, from their scores: ranks, then Pareto sampling (paper section 3;
the rule as GPT-3 published it), or a threshold for comparison."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glam.config import FilterConfig

VERSION = 1  # of the scores, and of the classifier that gives them


@dataclass(frozen=True, eq=False)
class Quality:
    """What the classifier found: `scores[source] [pages]`, the probability of being curated, and
    the area under its ROC curve on pages it did not train on."""

    scores: dict[str, NDArray[np.float32]]
    auc: float


def read_quality(folder: Path) -> Quality:
    """Scores and area under the ROC curve, as the stage `quality` left them in `folder`."""
    with np.load(folder / "scores.npz") as file:
        scores = {name: file[f"a{i}"] for i, name in enumerate(file["names"].tolist())}
    return Quality(scores, json.loads((folder / "quality.json").read_text())["auc"])


def calibrated(scores: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float64]]:
    """Percentile of each score within the whole pool, in (0, 1); equal scores get their mean. Most
    raw scores are near 0, where Pareto sampling keeps almost nothing."""
    everything = np.concatenate(list(scores.values()))
    _, place, counts = np.unique(everything, return_inverse=True, return_counts=True)
    ranks = ((np.cumsum(counts) - counts / 2) / len(everything))[place]
    ends = np.cumsum([len(each) for each in scores.values()])
    return dict(zip(scores, np.split(ranks, ends[:-1]), strict=True))


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
    lomax = (1 - draws) ** (-1 / alpha) - 1
    return lomax > 1 - scores
