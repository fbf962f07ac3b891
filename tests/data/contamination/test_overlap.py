"""Overlap of items with text, beside a search that knows no hash."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.data.contamination import (
    COMMON,
    EvaluationItem,
    EvaluationItems,
    Overlap,
    contamination_hits,
    item_ngrams,
    overlap_of,
)
from glam.data.contamination.ngrams import ngram_length

WORDS = st.lists(st.sampled_from(["a", "bb", "Ccc", "dé", "4"]), min_size=1, max_size=16)


def words(text):
    return [word.lower() for word in re.findall(r"[^\W_]+", text)]


def grams(text, n):
    found = words(text)
    return {tuple(found[at : at + n]) for at in range(len(found) - n + 1)}


def looked_for(stretches, n):
    """The n-grams of an item by the rule of the page on contamination."""
    long = [one for one in stretches if len(words(one)) >= 8] or [" ".join(stretches)]
    return {gram for one in long if words(one) for gram in grams(one, min(n, len(words(one))))}


def found_in(items, documents, parts=1):
    sets = [EvaluationItems.of("suite", [EvaluationItem("t", *one) for one in enumerate(items)])]
    known = item_ngrams(sets)
    hits = [contamination_hits(documents[part::parts], known.table) for part in range(parts)]
    return overlap_of(known, hits)


@settings(max_examples=60)
@given(st.lists(WORDS, min_size=1, max_size=6), st.lists(st.lists(WORDS, max_size=3), max_size=14))
def test_an_item_is_dirty_where_one_of_its_ngrams_is_in_the_text_word_for_word(items, documents):
    items = [(", ".join(one),) for one in items]
    documents = ["; ".join(" ".join(part) for part in one) for one in documents]
    found = found_in(items, documents, parts=2)
    n = ngram_length([len(words(text)) for (text,) in items])
    for number, stretches in enumerate(items):
        mine = looked_for(stretches, n)
        counts = Counter(
            gram for one in documents for gram in mine if gram in grams(one, len(gram))
        )
        assert found.dirty("suite")["t"][number] == bool(counts)
        assert found.rare[number] == any(count <= COMMON for count in counts.values())
        assert found.common[number] == any(count > COMMON for count in counts.values())
        assert found.covered[number] == pytest.approx(len(counts) / max(1, len(mine)))


def test_what_is_planted_is_found_whatever_its_case_and_punctuation():
    planted = "The  quick, brown FOX (jumps) over the lazy dog; and so on and so forth"
    text = "Before. the quick brown fox jumps over - the lazy dog and so ON and so forth! After."
    assert found_in([(planted,), (planted.replace("FOX", "cat"),)], [text]).dirty("suite")[
        "t"
    ].tolist() == [True, False]


def test_the_length_of_an_ngram_is_that_of_short_items_within_8_and_13():
    assert ngram_length([100] * 20) == 13
    assert ngram_length([3] * 20) == 8
    assert ngram_length([10] * 20) == 10
    assert ngram_length([4] + [40] * 40) == 13  # a few short ones set nothing


def test_an_item_shorter_than_an_ngram_is_looked_for_whole():
    short, other = "only five words in all", "only five words in vain"
    found = found_in([(short,), (other,)], ["here are only five words in all of them"])
    assert found.dirty("suite")["t"].tolist() == [True, False]


def test_no_ngram_goes_from_one_stretch_into_the_next():
    passage, question = "a b c d e f g h i j k l m", "who is it that comes after all of them"
    across = "f g h i j k l m who is it that comes"
    assert not found_in([(passage, question)], [across]).dirty("suite")["t"][0]
    assert found_in([(passage, question)], [f"so {question}"]).dirty("suite")["t"][0]


def test_short_stretches_are_looked_for_together():
    item = ("why did it rain", "because of the clouds")
    assert not found_in([item], ["why did it rain", "because of the clouds"]).dirty("suite")["t"][0]
    assert found_in([item], ["why did it rain? Because of the clouds"]).dirty("suite")["t"][0]


def test_an_item_without_a_word_is_never_dirty():
    assert not found_in([("...",), ("",)], ["... a b c", ""]).dirty("suite")["t"].any()


def test_where_what_overlaps_is_removed_common_phrases_are_left():
    rare, common = " ".join("abcdefgh"), " ".join("stuvwxyz")
    found = found_in([(rare,), (common,)], [rare, *[common] * (COMMON + 1)])
    assert found.dirty("suite")["t"].tolist() == [True, True]
    assert found.dirty("suite", removed=True)["t"].tolist() == [False, True]
    [row] = found.report()["suite"].values()
    assert row == {
        "n": 8,
        "items": 2,
        "dirty": 2,
        "share": 1.0,
        "rare": 1,
        "common": 1,
        "ngrams_found": 1.0,
    }


def test_suites_and_tasks_stand_apart(tmp_path):
    def items(suite, *tasks):
        return EvaluationItems.of(
            suite, [EvaluationItem(task, 0, (f"{suite} {task} is here",)) for task in tasks]
        )

    known = item_ngrams([items("one", "a", "b"), items("two", "a")])
    hits = contamination_hits(["x one b is here", "two a is here y"], known.table)
    overlap_of(known, [hits]).save(tmp_path)
    found = Overlap.read(tmp_path)
    assert {name: each.tolist() for name, each in found.dirty("one").items()} == {
        "a": [False],
        "b": [True],
    }
    assert found.dirty("two")["a"].tolist() == [True]
    assert np.flatnonzero(found.rare_ngrams).size == 2


def test_equal_items_have_equal_keys():
    one, other = ([EvaluationItem("t", 0, (text,))] for text in ("a b", "a c"))
    assert EvaluationItems.of("s", one).key == EvaluationItems.of("s", list(one)).key
    assert EvaluationItems.of("s", one).key != EvaluationItems.of("s", other).key
