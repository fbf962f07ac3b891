"""Products with hashed n-grams: the C kernel and its stand-in against a slow definition."""

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.utils import murmurhash3_32

from glam.data.scoring import normalised, products
from glam.kernels import switched_off, text_library

# Letters that lower-casing lengthens or makes depend on their place, digits of all kinds, marks.
CHARACTERS = st.one_of(
    st.sampled_from("aB_1 .İΣςß²٣ⅷ\u0301\u200d𝔘𐐀\n-'"), st.characters(codec="utf-8")
)
PAGES = st.lists(st.text(CHARACTERS, max_size=40), min_size=1, max_size=4)
needs_kernels = pytest.mark.skipif(text_library() is None, reason="no C compiler here")


def slow(page: str, features: int, ngrams: int) -> dict[int, int]:
    """Signed counts by feature, from scikit-learn's documentation of HashingVectorizer."""
    words = re.findall(r"\b\w\w+\b", page.lower())
    counts: dict[int, int] = {}
    for n in range(1, ngrams + 1):
        for i in range(len(words) - n + 1):
            hashed = murmurhash3_32(" ".join(words[i : i + n]))
            feature = abs(hashed) % features
            counts[feature] = counts.get(feature, 0) + (1 if hashed >= 0 else -1)
    return counts


@given(PAGES, st.sampled_from([1, 2, 3, 7, 1000, 4096]), st.integers(1, 8), st.integers(1, 3))
@needs_kernels
def test_kernel_and_stand_in_give_the_sums_of_the_definition(
    pages: list[str], features: int, ngrams: int, folds: int
) -> None:
    rng = np.random.default_rng(features)
    weights = rng.integers(-(2**30), 2**30, (folds, features), dtype=np.int32)
    dealt = np.arange(len(pages)) % folds
    fast = products(pages, weights, dealt, ngrams)
    with switched_off():
        instead = products(pages, weights, dealt, ngrams)
    for page, fold, *found in zip(pages, dealt, *fast, *instead, strict=True):
        counts = slow(page, features, ngrams)
        product = sum(count * int(weights[fold, feature]) for feature, count in counts.items())
        square = sum(count**2 for count in counts.values())
        assert found == [product, square, product, square]


@given(PAGES, st.sampled_from([1, 2, 3, 7, 1000, 4096]), st.integers(1, 8))
@needs_kernels
def test_rows_to_learn_from_are_those_of_scikit_learn_to_the_bit(
    pages: list[str], features: int, ngrams: int
) -> None:
    fast = normalised(pages, features, ngrams)
    with switched_off():
        instead = normalised(pages, features, ngrams)
    assert fast.shape == instead.shape
    for name in ("data", "indices", "indptr"):
        one, other = getattr(fast, name), getattr(instead, name)
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()


@needs_kernels
def test_a_long_page_beside_short_ones_is_counted_alone() -> None:
    """The kernel's table grows with its longest page, and is not emptied between pages."""
    pages = ["one two", "", " ".join(f"word{i % 700}" for i in range(5000)), "one two", "x y z"]
    weights = np.arange(-500, 500, dtype=np.int32)[None]
    found = products(pages, weights, np.zeros(5, int), 3)
    alone = [products([page], weights, np.zeros(1, int), 3) for page in pages]
    np.testing.assert_array_equal(np.array(found), np.hstack([np.array(one) for one in alone]))
    assert found[1].tolist()[:2] == [3, 0]


@pytest.mark.parametrize("features", [2**18, 10**6 + 3])
def test_features_are_those_that_the_classifier_was_trained_on(features: int) -> None:
    pages = ["The café's menu, the CAFÉ's Menu: 42 \u0130stanbul", "Straße ΟΔΟΣ ٣٤ x yy"]
    rows = HashingVectorizer(n_features=features, ngram_range=(1, 2)).transform(pages)
    weights = np.random.default_rng(0).integers(-999, 999, (1, features), dtype=np.int32)
    product, squares = products(pages, weights, np.zeros(2, int), 2)
    np.testing.assert_allclose(product / np.sqrt(squares), rows @ weights[0])


@needs_kernels
def test_scores_need_neither_torch_nor_scikit_learn_where_there_is_a_compiler() -> None:
    script = (
        "import sys, numpy as np; from glam.data.scoring import normalised, products;"
        "products(['a text'], np.ones((1, 8), np.int32), np.zeros(1, int), 2);"
        "assert not {'torch', 'sklearn', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
