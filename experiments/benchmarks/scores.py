"""Scoring pages by their quality: our kernel against scikit-learn's features, on the embedded
reviews. `as before` is what 0.3 replaced: normalised features in float32, times real weights."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from experiments.benchmarks.timing import interleaved
from glam.data import EMBEDDED
from glam.data.classifier import Classifier, score
from glam.data.scoring import vectorizer
from glam.data.text import clean, pages
from glam.kernels import switched_off

FEATURES, FOLDS, LIMIT = 262_144, 2, 1_200
PAGES = 1_000  # as many as are scored at once


def measure() -> Iterator[dict[str, object]]:
    texts = reviews(PAGES)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    folds = np.arange(len(texts)) % FOLDS
    for ngrams in (1, 2, 3):
        real = np.random.default_rng(0).normal(size=(FOLDS, FEATURES))
        classifier = Classifier.rounded(real, np.zeros(FOLDS), ngrams)
        normalised = vectorizer(FEATURES, ngrams, dtype=np.float32)

        def ours(classifier: Classifier = classifier) -> object:
            return score(classifier, texts, folds)

        def stand_in(classifier: Classifier = classifier) -> object:
            with switched_off():
                return score(classifier, texts, folds)

        def before(normalised: Any = normalised, real: Any = real) -> object:
            logits = normalised.transform(texts) @ real.T
            return 1 / (1 + np.exp(-logits[np.arange(len(folds)), folds]))

        candidates = {
            "kernel": ours,
            "scikit-learn, as before": before,
            "without kernels": stand_in,
        }
        for row in interleaved(
            candidates, "scikit-learn, as before", turn=0.3, label=f"{ngrams} words"
        ):
            speed = {"mb_per_cpu_s": megabytes / (float(str(row["ms"])) / 1e3)}
            yield {"ngrams": f"n-grams of {ngrams}"} | row | speed


def reviews(count: int) -> list[str]:
    """The first pages of the embedded reviews."""
    source = next(row for row in EMBEDDED if row.name == "reviews").open()
    texts = (text if isinstance(text, str) else getattr(text, "text", "")
             for text in source.reader(source.files))  # fmt: skip
    return list(islice((page for text in texts for page in pages(clean(text), LIMIT)), count))
