"""Associations of models: by their definition, of a planted expert, and of models that know
nothing."""

import numpy as np
import pytest
import torch

from glam.analysis.bias import associations, by_expert, correction
from glam.evaluation.bias import lexicon
from glam.evaluation.bias.log_probabilities import encode, log_probabilities
from glam.evaluation.bias.measure import (
    OCCUPATIONS,
    Probe,
    coreference,
    experts_in,
    without_each,
)
from glam.model.scaling import scaled_experts
from tests.evaluation.bias.conftest import plant, random_model

PLANTED = (1, 2)


@pytest.fixture(scope="module")
def probe(tokenizer):
    return Probe.of(tokenizer)


def occupations_only(probe):
    """The sentences of occupations alone: a part of the probe, for many models."""
    count = len(lexicon.job_sentences())
    part = Probe(probe.encoded[:count], probe.padding, {})

    def values(model):
        from glam.evaluation.bias.log_probabilities import token_log_probabilities

        nats = token_log_probabilities(model, part.encoded, part.padding)
        by_pronoun = nats.reshape(len(lexicon.jobs()), -1, 2).mean(1)
        return {OCCUPATIONS: by_pronoun[:, 1] - by_pronoun[:, 0]}

    return values


def nats_by_definition(model, tokenizer, given, text):
    before = len([tokenizer.bos, *tokenizer.encode(given)])
    tokens = torch.tensor([[tokenizer.bos, *tokenizer.encode(given + text)]])
    with torch.no_grad():
        log_p = model(tokens[:, :-1]).logits[0].double().log_softmax(-1)
    return sum(log_p[i - 1, tokens[0, i]].item() for i in range(before, tokens.shape[1]))


def test_log_probabilities_are_those_of_the_text_alone_whatever_its_batch(tokenizer):
    model = random_model(tokenizer, 5)
    texts = [
        ("She was very", " kind"),
        ("", "The nurse said that she would come back."),
        ("He", " was"),
    ]
    found = log_probabilities(model, tokenizer, texts)
    for (given, text), nats in zip(texts, found, strict=True):
        assert nats == pytest.approx(nats_by_definition(model, tokenizer, given, text), rel=1e-5)


def test_a_continuation_begins_where_the_tokens_of_both_part():
    class Merging:
        bos, eos = 0, 1

        def encode(self, text):
            return {"a": [5], "ab": [6], "a b": [5, 7], "": []}[text]

    assert encode(Merging(), ("a", " b")) == ([0, 5, 7], 2)
    assert encode(Merging(), ("a", "b")) == ([0, 6], 1)  # a piece over the border counts
    assert encode(Merging(), ("", "a b")) == ([0, 5, 7], 1)


def test_values_are_the_differences_that_they_say(tokenizer, probe):
    model = random_model(tokenizer, 1)
    found = probe.values(model)
    nurse = [text for job, _, text in lexicon.job_sentences() if job == "nurse"]
    nats = [nats_by_definition(model, tokenizer, "", text) for text in nurse]
    wanted = np.mean(nats[1::2]) - np.mean(nats[::2])
    assert found[OCCUPATIONS][0] == pytest.approx(wanted, rel=1e-4, abs=1e-5)

    def kind_after(name):
        prompts = [text for group, text in lexicon.group_prompts() if group.name == name]
        return np.mean([nats_by_definition(model, tokenizer, one, " kind") for one in prompts])

    religions = [group.name for group in lexicon.GROUPS if group.kind == "religion"]
    others = [kind_after(name) for name in religions if name != "Hindu"]
    wanted = kind_after("Hindu") - np.mean(others)
    assert found["religion/Hindu"][0] == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    assert set(found) == set(probe.sides)
    assert all(len(found[name]) == len(side) for name, side in probe.sides.items())


@pytest.fixture(scope="module")
def planted(tokenizer, probe):
    """A model that knows nothing, but for one expert, which was trained to prefer "she" after
    occupations of women."""
    model = random_model(tokenizer, 0)
    side = torch.tensor([side for _, side in lexicon.jobs()])

    def preference(nats):
        by_pronoun = nats.view(len(side), -1, 2).mean(1)
        return ((by_pronoun[:, 1] - by_pronoun[:, 0]) * side).mean()

    plant(model, PLANTED, probe.encoded[: len(lexicon.job_sentences())], preference)
    return model


def ranked(model, probe, values, sides, shuffles=499):
    without = {one: values(model) for one in without_each(model, experts_in(model))}
    return by_expert(values(model), without, sides, shuffles=shuffles, seed=0)["experts"]


def test_a_planted_biased_expert_is_ranked_first(planted, probe):
    [bias] = [
        row
        for row in associations(probe.values(planted), probe.sides, shuffles=499, seed=0)
        if row["association"] == OCCUPATIONS
    ]
    assert bias["found"]
    first, *others = ranked(planted, probe, probe.values, probe.sides)
    assert (first["layer"], first["expert"], first["association"]) == (*PLANTED, OCCUPATIONS)
    assert first["found"]
    assert first["low"] > 0
    assert not any(row["found"] and row["association"] != OCCUPATIONS for row in others)


def test_the_correction_brings_the_bias_of_the_planted_model_back_to_the_null(planted, probe):
    before = probe.values(planted)
    with scaled_experts(planted, {PLANTED: 0.0}):
        after = probe.values(planted)
    [row] = [
        one
        for one in correction(before, after, probe.sides, shuffles=499, seed=0)
        if one["association"] == OCCUPATIONS
    ]
    assert row["before"]["found"]
    assert row["change"]["high"] < 0
    assert not row["after"]["found"]
    assert row["after"]["low"] < 0 < row["after"]["high"]
    assert abs(row["after"]["effect"]) < 0.1 * row["before"]["effect"]


def test_of_models_that_know_nothing_one_in_twenty_at_most_has_a_finding(tokenizer, probe):
    values, sides = occupations_only(probe), {OCCUPATIONS: probe.sides[OCCUPATIONS]}
    found = 0
    for seed in range(100, 140):
        model = random_model(tokenizer, seed)
        rows = ranked(model, probe, values, sides, shuffles=199)
        found += any(row["found"] for row in rows)
    assert found <= 2


def test_a_model_without_a_clue_is_at_chance_in_who_a_pronoun_means(tokenizer):
    found = coreference(random_model(tokenizer, 7), tokenizer)
    assert set(found) == {"he", "she"}
    for right in found.values():
        assert len(right) == 4 * len(lexicon.jobs())
        assert 0.4 < np.mean(right) < 0.6


def test_every_expert_of_every_moe_layer_is_left_out_once(tokenizer):
    model = random_model(tokenizer, 1)
    assert list(without_each(model, experts_in(model))) == [(1, e) for e in range(4)]
