"""Toxicity by a scorer of our own, which is small and real: the share of bad words in a text."""

import sys
from types import ModuleType

import pytest

from glam.analysis.bias import by_expert, toxicity
from glam.evaluation.bias import lexicon
from glam.evaluation.bias.continuations import Continuation, continuations
from glam.evaluation.bias.log_probabilities import encode, token_log_probabilities
from glam.evaluation.bias.measure import Probe, experts_in, without_each
from glam.evaluation.bias.toxicity import toxicity_scorer
from glam.tasks.bias import _of_texts, _with_toxicity
from tests.evaluation.bias.conftest import plant, random_model

PLANTED = (1, 3)


def bad_words(texts):
    bad = set(lexicon.BAD)
    shares = []
    for text in texts:
        words = text.lower().split()
        shares.append(sum(word.strip(".,") in bad for word in words) / max(len(words), 1))
    return shares


@pytest.fixture(scope="module")
def probe(tokenizer):
    return Probe.of(tokenizer)


@pytest.fixture(scope="module")
def toxic(tokenizer):
    """One expert of a model that knows nothing was trained to write bad words about people."""
    model = random_model(tokenizer, 11)
    words = lexicon.GOOD + lexicon.BAD
    prompts = [prompt for _, prompt in lexicon.group_prompts()]
    encoded = [encode(tokenizer, (prompt, " " + word)) for prompt in prompts for word in words]

    def preference(nats):
        by_word = nats.view(len(prompts), len(words)).mean(0)
        return by_word[len(lexicon.GOOD) :].mean() - by_word[: len(lexicon.GOOD)].mean()

    plant(model, PLANTED, encoded, preference, steps=15)
    return model


def written(model, tokenizer, samples=8):
    return continuations(model, tokenizer, samples=samples, max_tokens=6, seed=0, context=16)


def test_texts_continue_their_prompts_and_words_are_those_of_the_sentence(tokenizer):
    texts = written(random_model(tokenizer, 2), tokenizer, samples=2)
    assert len(texts) == 2 * len(lexicon.group_prompts())
    for one in texts:
        assert tokenizer.decode(one.tokens[1:]) == one.prompt + one.text
        assert tokenizer.decode(one.tokens[1 : one.start]) == one.prompt
    group = lexicon.GROUPS[0]
    said = " KIND, tall and kind man. He was cruel"
    assert Continuation(group, "", said, [], 0).words == ["kind", "tall"]


def test_an_expert_that_writes_what_is_toxic_is_ranked_first_for_it(toxic, tokenizer, probe):
    texts = written(toxic, tokenizer)
    scores = bad_words([one.text for one in texts])
    whole, sides = _with_toxicity(toxic, probe, texts, scores, {}, {})
    without = {
        one: _of_texts(toxic, probe, texts) for one in without_each(toxic, experts_in(toxic))
    }
    first, *_ = by_expert(whole, without, sides, shuffles=499, seed=0)["experts"]
    assert (first["layer"], first["expert"]) == PLANTED
    assert first["found"]
    assert first["low"] > 0


def test_a_texts_number_is_its_log_probability_after_the_prompt(toxic, tokenizer, probe):
    texts = written(toxic, tokenizer, samples=1)[:3]
    found = _of_texts(toxic, probe, texts)["toxicity"]
    encoded = [encode(tokenizer, (one.prompt, one.text)) for one in texts]
    assert found == pytest.approx(token_log_probabilities(toxic, encoded, 1), rel=1e-6)


def test_by_group_a_toxic_one_is_found_and_the_others_of_its_kind_are_compared():
    texts = [("religion", name) for name in ("a", "b", "c") for _ in range(30)]
    scores = [0.4 + 0.01 * (i % 7) if name == "b" else 0.1 + 0.01 * (i % 5)
              for i, (_, name) in enumerate(texts)]  # fmt: skip
    rows = {row["association"]: row for row in toxicity(texts, scores, shuffles=299, seed=0)}
    assert rows["religion/b"]["found"]
    assert rows["religion/b"]["effect"] == pytest.approx(0.31, abs=0.01)
    assert rows["religion/b"]["mean_low"] < 0.43 < rows["religion/b"]["mean_high"]
    assert rows["religion/a"]["effect"] < 0


def test_without_the_package_there_is_no_scorer(monkeypatch):
    monkeypatch.setattr("glam.evaluation.bias.toxicity.find_spec", lambda name: None)
    assert toxicity_scorer() is None


def test_with_the_package_texts_are_scored_in_parts(monkeypatch):
    """The package is stood in for by its interface, with our own scorer behind it: its weights come
    from a network."""
    module, parts = ModuleType("detoxify"), []

    class Detoxify:
        def __init__(self, name):
            assert name == "original"

        def predict(self, texts):
            parts.append(len(texts))
            return {"toxicity": bad_words(texts), "insult": [0.0] * len(texts)}

    module.Detoxify = Detoxify
    monkeypatch.setitem(sys.modules, "detoxify", module)
    monkeypatch.setattr("glam.evaluation.bias.toxicity.find_spec", lambda name: module)
    texts = ["a cruel man", "a kind man"] * 20
    assert toxicity_scorer()(texts) == [pytest.approx(1 / 3), 0.0] * 20
    assert parts == [32, 8]
