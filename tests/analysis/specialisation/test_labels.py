"""Shuffling keeps what must be kept."""

import numpy as np

from glam.analysis.specialisation.labels import Documents, Labels
from tests.analysis.specialisation.worlds import documents, labels


def test_documents_laid_out_in_another_order_stay_whole():
    docs = Documents(np.array([0, 3, 4, 9]), np.zeros(3, int))
    assert docs.laid_out(np.array([2, 0, 1])).tolist() == [4, 5, 6, 7, 8, 0, 1, 2, 3]


def test_shuffled_tokens_are_those_of_other_documents_in_their_own_order():
    docs = Documents(np.array([0, 2, 4, 7]), np.zeros(3, int))
    label = Labels("token", np.array([1, 2, 3, 4, 5, 6, 7]), [])
    seen = {tuple(label.shuffled(docs, np.random.default_rng(seed))) for seed in range(50)}
    assert len(seen) == 6  # every order of three documents
    for order in seen:
        text = "".join(map(str, order))
        assert all(document in text for document in ("12", "34", "567"))


def test_dealt_anew_every_domain_keeps_its_number_of_tokens_and_documents_stay_whole():
    rng = np.random.default_rng(0)
    docs = documents(rng)
    domain = labels(rng, docs)[2]
    before = np.bincount(domain.values)
    long_ones = set()
    for _ in range(20):
        found = domain.shuffled(docs, rng)
        starts = docs.offsets[:-1]
        assert (found == found[starts][docs.of_token]).all()
        # All but exact: the last documents to be dealt are the shortest.
        assert np.abs(np.bincount(found, minlength=3) - before).max() < 40
        long_ones.add(tuple(found[starts][:8]))
    assert len(long_ones) > 5


def test_a_half_has_half_of_every_domain():
    rng = np.random.default_rng(1)
    docs = documents(rng, counts=(5, 40, 160))
    first = docs.halves(rng)
    assert np.bincount(docs.strata[first]).tolist() == [3, 20, 80]
