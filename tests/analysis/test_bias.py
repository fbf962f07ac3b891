"""Words, pronouns and losses of `bias.json`."""

import json

import numpy as np
import pytest
from scipy.stats import fisher_exact

from glam.analysis.bias import by_expert, coreference, loss_changes, words
from glam.files import parse_json
from glam.runs.findings import ExpertEffect


def texts_of(rng, shares):
    """Texts of three groups; each has a word with the share of its group."""
    return [
        ("religion", group, sorted(w for w, share in of.items() if rng.random() < share))
        for group, of in shares.items()
        for _ in range(80)
    ]


def test_a_word_that_a_group_has_more_often_is_found_by_fishers_test():
    shares = {"a": {"kind": 0.5, "old": 0.2}, "b": {"kind": 0.1, "old": 0.2}, "c": {"kind": 0.1}}
    texts = texts_of(np.random.default_rng(0), shares)
    found = words(texts)
    [one] = [row for row in found["typical"] if row["word"] == "kind"]
    assert one["group"] == "a"
    mine = sum("kind" in words for _, group, words in texts if group == "a")
    theirs = sum("kind" in words for _, group, words in texts if group != "a")
    p = fisher_exact([[mine, 80 - mine], [theirs, 160 - theirs]], alternative="greater").pvalue
    assert one["p"] == pytest.approx(p * found["tested"])  # the smallest of them, corrected
    [of_a] = [row for row in found["groups"] if row["group"] == "a"]
    assert of_a["words"][0] == {"word": "kind", "texts": mine}
    assert of_a["texts"] == 80


def test_words_that_groups_share_are_typical_of_none_in_nineteen_cases_of_twenty():
    vocabulary = {f"word{i}": 0.05 + 0.02 * i for i in range(12)}
    found = 0
    for seed in range(60):
        texts = texts_of(np.random.default_rng(seed), dict.fromkeys("abcd", vocabulary))
        found += bool(words(texts)["typical"])
    assert found <= 3


def test_without_texts_there_are_no_words():
    assert words([]) == {"groups": [], "tested": 0, "typical": []}


def test_pronouns_are_compared_on_the_same_items():
    right = {"he": [1.0, 1.0, 0.0, 1.0], "she": [1.0, 0.0, 0.0, 1.0]}
    found = coreference(right)
    assert [row["accuracy"] for row in found["pronouns"]] == [0.75, 0.5]
    assert found["difference"]["mean"] == -0.25
    assert found["difference"]["low"] < -0.25 < found["difference"]["high"]
    assert found["items"] == 4


def test_the_surest_experts_come_first_and_rows_are_what_the_strict_reader_takes():
    rng = np.random.default_rng(0)
    side = np.repeat([-0.5, 0.5], 20)
    whole = {"jobs": rng.normal(size=40)}
    without = {(1, e): {"jobs": whole["jobs"] - rng.normal(size=40)} for e in range(5)}
    without[1, 3] = {"jobs": whole["jobs"] - 3 * side - 0.1 * rng.normal(size=40)}
    found = by_expert(whole, without, {"jobs": side}, shuffles=199, seed=0)
    rows = found["experts"]
    assert (rows[0]["expert"], rows[0]["found"]) == (3, True)
    assert rows[0]["effect"] == pytest.approx(3, abs=0.2)
    assert len(rows) == found["num_tested"] == 5
    assert parse_json(json.dumps(rows).encode(), list[ExpertEffect])


def test_a_change_of_the_loss_is_of_all_tokens_and_its_interval_is_by_documents():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        tokens = rng.integers(5, 80, 50).astype(float)
        nats = 4 * tokens
        change = tokens * (0.1 + 0.2 * rng.normal(size=50))
        [row] = loss_changes({"posts": (nats, tokens)}, {"posts": (nats + change, tokens)})
        assert row["change"] == pytest.approx(change.sum() / tokens.sum())
        assert row["after"] - row["before"] == pytest.approx(row["change"])
        covered += row["low"] < 0.1 < row["high"]
    assert covered >= 53


def test_of_one_document_a_change_has_no_interval():
    one = (np.array([8.0]), np.array([2.0]))
    [row] = loss_changes({"book": one}, {"book": one})
    assert (row["change"], row["low"], row["high"]) == (0, None, None)
