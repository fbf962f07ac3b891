"""Mutual information by its definition, and a null that holds where documents differ."""

import numpy as np
import pytest

from glam.analysis.specialisation.information import count, divergences, mutual_information
from glam.analysis.specialisation.labels import Documents, Labels
from tests.analysis.specialisation.worlds import NUM_EXPERTS, documents, labels, null_routes


def by_definition(experts, values):
    n = len(experts)
    bits = 0.0
    for e in set(experts.tolist()):
        for x in set(values.tolist()):
            both = ((experts == e) & (values == x)).mean()
            if both:
                bits += both * np.log2(both / ((experts == e).mean() * (values == x).mean()))
    assert n
    return bits


def test_it_is_the_mutual_information_and_the_mean_of_the_experts_divergences():
    rng = np.random.default_rng(0)
    experts, values = rng.integers(0, 4, 300), rng.integers(0, 5, 300)
    experts[:100] = values[:100] % 4
    counts = count(experts, values, 6)  # the last two experts are never chosen
    bits, by_expert = divergences(counts)
    assert bits == pytest.approx(by_definition(experts, values), rel=1e-12)
    assert by_expert @ counts.sum(1) / 300 == pytest.approx(bits, rel=1e-12)
    assert by_expert[4:].tolist() == [0, 0]


def found_in(rng, about, routes=None, shuffles=40):
    docs = documents(rng)
    kinds = labels(rng, docs)
    routes = null_routes(rng, docs) if routes is None else routes(docs, kinds)
    return mutual_information(routes, NUM_EXPERTS, kinds[about], docs, shuffles=shuffles, rng=rng)


@pytest.mark.parametrize("about", [0, 1, 2])
def test_where_experts_know_nothing_the_excess_is_zero_within_its_interval(about):
    found = [found_in(np.random.default_rng(seed), about) for seed in range(20)]
    assert np.mean([one.bits for one in found]) > 0
    inside = [one.low <= 0 <= one.high for one in found]
    assert sum(inside) >= 18
    null = np.mean([one.null for one in found])
    assert np.mean([one.excess for one in found]) == pytest.approx(0, abs=0.35 * null)


def test_shuffled_tokens_would_make_too_small_a_null_for_domains():
    rng = np.random.default_rng(3)
    docs = documents(rng)
    domain, routes = labels(rng, docs)[2], null_routes(rng, docs)
    bits = mutual_information(routes, NUM_EXPERTS, domain, docs, shuffles=40, rng=rng)
    by_tokens = [
        divergences(count(routes, rng.permutation(domain.values), NUM_EXPERTS))[0]
        for _ in range(40)
    ]
    assert bits.null > 4 * np.mean(by_tokens)


def test_experts_by_class_have_the_classes_entropy_and_rare_experts_no_more_than_chance():
    def by_class(docs, kinds):
        return kinds[1].values.copy()

    found = found_in(np.random.default_rng(4), 1, by_class)
    rng = np.random.default_rng(4)
    share = np.bincount(labels(rng, documents(rng))[1].values) / 6000
    assert found.bits == pytest.approx(-(share * np.log2(share)).sum(), rel=1e-9)
    assert found.low < found.excess < found.high
    assert found.low > 0.9 * found.excess


def test_at_its_own_count_a_rare_expert_is_no_specialist():
    rare = [found_in(np.random.default_rng(seed), 0).by_expert[6:] for seed in range(15)]
    docs = documents(np.random.default_rng(0))
    kinds = labels(np.random.default_rng(0), docs)
    plain = count(null_routes(np.random.default_rng(1), docs), kinds[0].values, NUM_EXPERTS)
    assert divergences(plain)[1][6:].min() > 0.5  # bits that a rare expert shows by chance alone
    assert abs(np.mean(rare)) < 0.1


def test_the_interval_covers_the_truth():
    """Truth: the information of a large sample of the same kind."""

    def half_by_class(rng):
        def routes(docs, kinds):
            own = rng.random(len(docs)) < 0.5  # of a document: half of them send by class
            return np.where(own[docs.of_token], kinds[1].values, null_routes(rng, docs))

        return routes

    def drawn(seed, world):
        routes = half_by_class(np.random.default_rng(world))
        return found_in(np.random.default_rng(seed), 1, routes, shuffles=20)

    truth = np.mean([drawn(1000 + seed, seed).excess for seed in range(20)])
    covered = [one.low <= truth <= one.high for one in (drawn(seed, seed) for seed in range(20))]
    assert sum(covered) >= 17


def test_labels_that_no_token_has_change_nothing():
    docs = Documents(np.array([0, 4, 8]), np.zeros(2, int))
    experts = np.array([0, 1, 0, 1, 1, 1, 0, 0])
    few = Labels("token", experts * 1, ["a", "b"])
    many = Labels("token", experts * 900, [])
    first, second = (
        mutual_information(experts, 2, one, docs, shuffles=20, rng=np.random.default_rng(0))
        for one in (few, many)
    )
    assert first.bits == second.bits == 1
    assert first.null == second.null
