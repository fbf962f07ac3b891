"""Scores, and how documents are dealt into folds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import HashingVectorizer

from glam.data import classifier as module
from glam.data.classifier import Classifier, by_draw, deal, score

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(2, 4096)), RNG.normal(size=2)
WORDS = ["state", "union", "lol", "u", "the", "of", "Straße", "naïve", "7th", "gr8", "\n"]
PAGES = st.lists(
    st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join), min_size=1, max_size=5
)


@given(PAGES)
def test_a_score_is_the_probability_that_the_fold_gives(pages: list[str]) -> None:
    classifier = Classifier.rounded(*REAL, ngrams=2)
    folds = np.arange(len(pages)) % 2
    rows = HashingVectorizer(n_features=4096, ngram_range=(1, 2)).transform(pages)
    logits = (rows @ REAL[0].T + REAL[1])[np.arange(len(pages)), folds]
    scores = score(classifier, pages, folds)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), atol=1e-5)
    # Few scores are distinct, whatever the number of pages.
    found = np.log(scores / (1 - scores))
    np.testing.assert_allclose(np.rint(found * 2**16), found * 2**16, atol=0.3)


def test_a_score_does_not_depend_on_the_pages_beside() -> None:
    classifier = Classifier.rounded(*REAL, ngrams=3)
    pages = ["state of the union " * i + "lol" for i in range(30)]
    folds = np.arange(30) % 2
    alone = [score(classifier, [page], folds[i : i + 1]).item() for i, page in enumerate(pages)]
    assert score(classifier, pages, folds).tolist() == alone


@pytest.mark.parametrize("largest", [0.0, 1e-9, 0.5, 64.0, 1000.0, 3e8])
def test_weights_of_any_size_fit_whole_numbers(largest: float) -> None:
    weights = RNG.uniform(-largest, largest, (3, 100))
    weights[1, 5] = -largest
    made = Classifier.rounded(weights, np.zeros(3), ngrams=1)
    step = 2.0**-made.exponent
    np.testing.assert_allclose(made.weights * step, weights, atol=step / 2)
    assert step <= max(2.0**-24, largest * 2.0**-28)


@given(st.sets(st.integers(0, 2**64 - 1), min_size=1, max_size=60), st.integers(2, 7))
def test_folds_are_of_even_size_and_follow_from_the_draws(found: set[int], folds: int) -> None:
    documents = np.array(sorted(found), np.uint64)
    sizes = np.bincount(deal(documents, folds, 0), minlength=folds)
    assert sizes.max() - sizes.min() <= 1


def test_folds_of_too_many_documents_to_rank_follow_from_each_ones_hash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    documents = np.sort(RNG.integers(0, 2**63, 30_000, dtype=np.uint64))
    ranked = deal(documents, 3, 0)
    monkeypatch.setattr(module, "MANY", 1000)
    drawn = deal(documents, 3, 0)
    np.testing.assert_array_equal(drawn, by_draw(documents, 3, 0))
    np.testing.assert_array_equal(drawn[::7], deal(documents[::7], 3, 0))
    assert not np.array_equal(drawn, ranked)
    np.testing.assert_allclose(np.bincount(drawn) / 30_000, 1 / 3, atol=0.02)
    assert not np.array_equal(drawn, by_draw(documents, 3, 1))
