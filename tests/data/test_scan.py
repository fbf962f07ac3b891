"""A pass over text: words and n-grams by their definition, and the same bits in C."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glam.config import DedupConfig
from glam.data import scan as scanning
from glam.data.scan import NgramTable, ngram_hashes, scan, word_hashes
from glam.kernels import switched_off, text_library

BASE, ALL = 0x9E3779B97F4A7C15, 2**64 - 1
# Any Unicode, and much of what repeats, so that texts share words and n-grams.
LETTERS = st.characters() | st.sampled_from("ab AB.\n_ß İé\u0301一\U0001d400")
TEXTS = st.lists(st.text(LETTERS, max_size=60), max_size=6)


def mixed(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & ALL
    z = (z ^ z >> 27) * 0x94D049BB133111EB & ALL
    return z ^ z >> 31


def lower(letter):
    return letter.lower() if len(letter.lower()) == 1 else letter


def words(text):
    """Runs of letters and digits in lower case."""
    return "".join(lower(c) if c.isalnum() else " " for c in text).split(" ")


def polynomial(numbers, start=0):
    value = start
    for number in numbers:
        value = (value * BASE + number) & ALL
    return mixed(value)


@given(st.text(LETTERS))
@example("an \ud800 alone")
def test_words_are_runs_of_letters_and_digits_in_lower_case(text):
    expected = [polynomial(map(ord, word)) for word in words(text) if word]
    assert word_hashes(text).tolist() == expected


@given(st.lists(st.integers(0, ALL), max_size=20), st.integers(1, 25))
def test_an_ngram_is_a_polynomial_of_its_words_and_of_their_number(numbers, n):
    grams = [numbers[at : at + n] for at in range(len(numbers) - n + 1)]
    expected = [polynomial(gram, n) for gram in grams]
    assert ngram_hashes(np.array(numbers, np.uint64), n).tolist() == expected


def table_of(text, *sizes):
    found = word_hashes(text)
    return NgramTable.of(sizes, np.concatenate([ngram_hashes(found, n) for n in sizes]))


@pytest.mark.skipif(text_library() is None, reason="no C compiler here")
@given(
    TEXTS,
    st.none() | st.builds(DedupConfig, bands=st.integers(1, 20), rows=st.integers(1, 8),
                          ngram=st.integers(1, 9)),
    st.none() | st.builds(table_of, st.text(LETTERS), st.integers(1, 3), st.integers(2, 4)),
)  # fmt: skip
@example(["an \ud800 alone"], DedupConfig(), None)
@example([], DedupConfig(), table_of("a b", 1))
@settings(deadline=None)
def test_the_kernel_gives_the_same_bits(texts, dedup, table):
    in_c = scan(texts, dedup, table)
    with switched_off():
        in_numpy = scan(texts, dedup, table)
    for one, other in zip(in_c, in_numpy, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tolist() == other.tolist()


def test_blocks_of_text_and_many_hits_change_nothing(monkeypatch):
    texts = ["a b c d e " * 30, "", "b a", "a b " * 2000]
    table = table_of("a b c d", 1, 2)
    whole = scan(texts, DedupConfig(), table)
    monkeypatch.setattr(scanning, "_BLOCK", 7)
    for one, other in zip(scan(texts, DedupConfig(), table), whole, strict=True):
        assert one.tolist() == other.tolist()
    # b, a b and b c of the second size among others, each once a text
    assert np.bincount(whole.hit_documents).tolist() == [7, 0, 2, 3]


def test_exactly_the_ngrams_of_the_table_are_found():
    table = table_of("The quick, brown fox!", 2, 3)
    texts = ["a quick brown dog", "the QUICK brown fox", "brown quick", "quick"]
    found = scan(texts, None, table)
    expected = {
        (index, key)
        for index, text in enumerate(texts)
        for n in (2, 3)
        for key in ngram_hashes(word_hashes(text), n).tolist()
        if key in table.keys.tolist()
    }
    assert set(zip(found.hit_documents.tolist(), found.hit_keys.tolist(), strict=True)) == expected
    assert found.bands.shape == (4, 0)
    assert [index for index, _ in sorted(expected)] == [0, 1, 1, 1, 1, 1]


def test_a_table_of_nothing_finds_nothing():
    found = scan(["a b"], None, NgramTable.of((1,), np.empty(0, np.uint64)))
    assert found.hit_keys.tolist() == []


def test_the_bytes_of_two_signatures_agree_as_their_ngrams_do():
    """The estimate of the Jaccard similarity, over many pairs, has no bias and the variance of 112
    independent draws."""
    random, pairs = np.random.default_rng(0), 200
    texts = []
    for _ in range(pairs):
        numbers = random.integers(0, 10**9, 400).tolist()
        texts += [" ".join(map(str, numbers[:300])), " ".join(map(str, numbers[100:]))]
    bands = scan(texts, DedupConfig(ngram=1), None).bands
    same = (bands[::2].view(np.uint8) == bands[1::2].view(np.uint8)).mean(1)
    expected = 0.5 + 0.5 / 256
    deviation = np.sqrt(0.25 / 112)
    assert abs(same.mean() - expected) < 4 * deviation / np.sqrt(pairs)
    assert abs(same.std() / deviation - 1) < 0.25


def test_case_and_punctuation_make_no_other_signature_and_no_word_makes_none():
    bands = scan(["Hello, world (again)", "hello WORLD again", "?!", "hello world"],
                 DedupConfig(), None).bands  # fmt: skip
    assert bands[0].tolist() == bands[1].tolist()
    assert bands[2].tolist() == [0] * 14
    assert not (bands[3] == bands[0]).any()


@pytest.mark.slow
def test_a_worker_scans_without_torch():
    code = (
        "import sys; from glam.config import DedupConfig; from glam.data.scan import scan; "
        "scan(['a b c'], DedupConfig(), None); print('torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
