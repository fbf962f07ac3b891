import numpy as np

from experiments.one_genre.corpus import FOOTER, MISREAD, WAYS, buried, misread, parts, shuffled

REVIEW = " ".join(f"Sentence {i} says what it thinks of scene {i}." for i in range(40))


def test_each_way_spoils_a_text_and_keeps_what_it_says_it_keeps():
    rng = np.random.default_rng(0)
    assert sorted(shuffled(REVIEW, rng).split()) == sorted(REVIEW.split())
    scanned = misread(REVIEW, rng)
    differing = np.mean([a != b for a, b in zip(REVIEW, scanned, strict=True) if a.isalpha()])
    assert abs(differing - MISREAD * 25 / 26) < 0.03
    site = buried(REVIEW, rng)
    assert REVIEW.split(". ")[0] in site
    assert REVIEW.split(". ")[1] not in site
    assert any(phrase in site for phrase in FOOTER.split(". ")[:2])
    assert all(way(REVIEW, rng) != REVIEW for way in WAYS)


def test_a_third_of_the_reviews_is_curated_and_half_of_the_rest_spoilt():
    documents = [f"{i}. {REVIEW}" for i in range(3000)]
    found = list(parts(documents))
    share = {name: np.mean([n == name for n, _ in found]) for name, _ in found}
    assert all(abs(share[name] - 1 / 3) < 0.03 for name in ("reviews", "clean", "spoilt"))
    for (name, text), document in zip(found, documents, strict=True):
        assert (text == document) == (name != "spoilt")
    assert found == list(parts(documents))
