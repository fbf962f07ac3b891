"""A planted specialist is found; without one, a claim is found in at most 5 % of models."""

import numpy as np
import pytest

from glam.analysis.specialisation.claims import few_documents, find_claims
from glam.analysis.specialisation.labels import Documents, Labels
from tests.analysis.specialisation.worlds import NUM_EXPERTS, documents, labels, null_routes


def claims_of(rng, docs, kinds, routes, shuffles=199):
    return find_claims(routes, NUM_EXPERTS, kinds, docs, shuffles=shuffles, rng=rng)


def test_a_model_without_specialists_has_a_finding_in_at_most_one_case_of_twenty():
    with_finding = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        docs = documents(rng)
        kinds = labels(rng, docs)
        routes = {layer: null_routes(rng, docs) for layer in (1, 3)}
        claims = claims_of(rng, docs, kinds, routes)
        assert {one.expert for one in claims} >= set(range(6))
        with_finding += any(one.is_found for one in claims)
    assert with_finding <= 10


@pytest.mark.parametrize(("about", "label"), [("token", 7), ("class", 1), ("domain", 1)])
def test_a_planted_specialist_is_found_and_intervals_cover_its_lift(about, label):
    covered = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        docs = documents(rng)
        kinds = labels(rng, docs)
        kind = next(one for one in kinds if one.about == about)
        routes = null_routes(rng, docs)
        routes[(kind.values == label) & (rng.random(len(routes)) < 0.5)] = 5
        [found] = [
            one
            for one in claims_of(rng, docs, kinds, {3: routes})
            if (one.expert, one.about) == (5, about)
        ]
        assert found.is_found
        assert (found.layer, found.label) == (3, kind.names[label])
        truth = (kind.values[routes == 5] == label).mean() / (kind.values == label).mean()
        covered += found.low < truth < found.high
    assert covered >= 10


def test_what_one_half_alone_shows_is_not_found():
    rng = np.random.default_rng(2)
    docs = documents(rng)
    kinds = labels(rng, docs)
    routes = null_routes(rng, docs)
    first = docs.halves(np.random.default_rng(5))  # the halves that find_claims will draw
    only_there = first[docs.of_token] & (kinds[0].values == 7)
    routes[only_there] = 6
    claims = claims_of(np.random.default_rng(5), docs, kinds, {0: routes})
    [picked] = [one for one in claims if (one.expert, one.about) == (6, "token")]
    assert picked.label == "7"
    assert not picked.is_found


def test_a_rare_expert_that_saw_one_label_three_times_is_no_specialist():
    rng = np.random.default_rng(3)
    docs = documents(rng)
    kinds = labels(rng, docs)
    routes = np.minimum(null_routes(rng, docs), 6)
    places = np.flatnonzero(kinds[0].values == 40)[:6]
    routes[places] = 7
    claims = claims_of(rng, docs, kinds, {0: routes})
    assert not [one for one in claims if one.expert == 7 and one.is_found]


def test_an_expert_that_no_token_went_to_has_no_claim_and_one_document_shows_nothing():
    docs = Documents(np.array([0, 50, 100]), np.zeros(2, int))
    kinds = [Labels("token", np.arange(100) % 2, ["a", "b"])]
    claims = claims_of(np.random.default_rng(0), docs, kinds, {0: np.arange(100) % 2})
    assert [one.expert for one in claims] == [0, 1]
    assert not any(one.is_found for one in claims)  # a perfect specialist, on a single document
    alone = Documents(np.array([0, 100]), np.zeros(1, int))
    assert claims_of(np.random.default_rng(0), alone, kinds, {0: np.arange(100) % 2}) == []


def test_of_a_domain_of_few_documents_nothing_is_claimed():
    rng = np.random.default_rng(4)
    docs = documents(rng, counts=(7, 40, 160))
    kinds = labels(rng, docs)[2:]
    routes = np.where(kinds[0].values == 0, 3, null_routes(rng, docs))
    claims = claims_of(rng, docs, kinds, {0: routes})
    assert "books" not in {one.label for one in claims}
    assert few_documents(kinds[0], docs).tolist() == [0]
