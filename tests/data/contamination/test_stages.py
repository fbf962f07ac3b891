"""Overlap of a prepared text: cached, in parts, and left out of training."""

import re
from dataclasses import replace

import numpy as np
import pytest

from glam.config import ContaminationConfig
from glam.data import cached_texts, prepare
from glam.data.contamination import (
    EvaluationItem,
    EvaluationItems,
    held_out_items,
    overlap,
    overlapping,
)

VOCAB = 400


def words(text):
    return re.findall(r"[^\W_]+", text.lower())


@pytest.fixture(scope="module")
def planted(prepared):
    """Nine words of the middle of every fifth training document, as items of one task; and items of
    words that no text has."""
    stretches = [
        " ".join(found[len(found) // 2 :][:9])
        for number, text in enumerate(prepared.texts.training(10**9))
        if number % 5 == 0 and len(found := words(text)) > 40
    ]
    absent = [" ".join(f"absent{number}{n}" for n in range(9)) for number in range(20)]
    tasks = {"there": stretches, "absent": absent}
    return EvaluationItems.of(
        "planted",
        [
            EvaluationItem(task, number, (text,))
            for task, texts in tasks.items()
            for number, text in enumerate(texts)
        ],
    )


def test_what_stands_in_training_text_is_found_and_nothing_else(prepared, planted):
    found = overlap(prepared.texts, [planted]).dirty("planted")
    assert found["there"].all()
    assert len(found["there"]) > 20
    assert not found["absent"].any()


def test_items_that_are_known_by_their_key_are_not_read_again(prepared, planted):
    overlap(prepared.texts, [planted])

    def refuse():
        raise AssertionError("the items are read")

    again = overlap(prepared.texts, [replace(planted, load=refuse)])
    assert again.dirty("planted")["there"].all()


def test_held_out_documents_are_a_task_of_each_domain(prepared):
    found = overlap(prepared.texts, [held_out_items(prepared.texts)]).dirty("held_out")
    assert list(found) == prepared.domains
    assert {name: len(each) for name, each in found.items()} == {
        name: len(each) for name, each in prepared.held_out.items()
    }


@pytest.fixture(scope="module")
def cleaned(data, cache, planted):
    config = replace(data, contamination=ContaminationConfig(remove=True))
    return prepare(config, VOCAB, cache, items=lambda texts: [planted])


def test_removed_text_is_trained_on_no_more_and_all_else_is(prepared, cleaned, planted):
    wanted = {tuple(words(item.stretches[0])) for item in planted.load() if item.task == "there"}

    def units(which):
        tokenizer = which.tokenizer
        return {
            tokenizer.decode(component.parts[part][start + 1 : start + length].tolist())
            for component in which.components
            for part, start, length in zip(
                component.part, component.starts, component.lengths, strict=True
            )
        }

    def has_planted(text):
        found = words(text)
        return any(tuple(found[at : at + 9]) in wanted for at in range(len(found) - 8))

    before, after = units(prepared), units(cleaned)
    assert any(map(has_planted, before))
    assert not any(map(has_planted, after))
    assert after < before
    folders = overlapping(prepared.texts, [planted])
    removed = sum(int(np.load(each / "units.npy").sum()) for each in folders.values())
    assert len(before - after) <= removed  # some pages the filter had dropped


def test_what_is_removed_is_counted_in_the_funnel(prepared, cleaned, planted):
    def rows(which):
        return {(row["source"], row["step"]): row["documents"] for row in which.funnel}

    left = dict.fromkeys(prepared.sources, 0)
    for part in prepared.texts.parts():
        marks = np.load(overlapping(prepared.texts, [planted])[part.place] / "units.npy")
        left[part.domain] += np.count_nonzero(~marks)
    for name, units in left.items():
        assert rows(cleaned)[name, "without overlap"] == units <= rows(cleaned)[name, "pages"]
        assert rows(cleaned)[name, "kept"] <= units
    assert sum(left.values()) < sum(rows(cleaned)[name, "pages"] for name in left)
    assert not any(step == "without overlap" for _, step in rows(prepared))


def test_removal_makes_another_text_of_the_same_tokens(prepared, cleaned):
    assert cleaned.fingerprint != prepared.fingerprint
    assert cleaned.tokenizer.fingerprint == prepared.tokenizer.fingerprint
    assert cleaned.text_fingerprint == prepared.text_fingerprint
    assert list(cleaned.held_out) == list(prepared.held_out)


def test_sources_that_are_left_out_do_not_overlap(prepared, planted, data, cache):
    everything = overlap(prepared.texts, [planted]).documents.sum()
    without = prepare(replace(data, left_out=["posts", "chats"]), VOCAB, cache).texts
    assert overlap(without, [planted]).documents.sum() < everything


def test_text_that_is_in_the_cache_is_had_without_reading_it(prepared, planted, data, cache):
    texts = cached_texts(data, VOCAB, cache)
    assert overlap(texts, [planted]).dirty("planted")["there"].all()
    assert cached_texts(data, VOCAB, cache / "empty") is None
