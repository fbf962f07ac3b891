import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from glam.data.split import Domain, Sides, split

ROLES = st.sampled_from(["held_out", "curated", "pool"])
DOCUMENTS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 1000)), max_size=30)


def domain(role: str, documents: list[tuple[int, int]]) -> Domain:
    names = np.array([name for name, _ in documents], np.uint64)
    # Equal documents are equally long.
    sizes = np.array([1 + 37 * name % 101 for name, _ in documents], np.int64)
    return Domain(role, names, sizes)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(ROLES, DOCUMENTS), max_size=4),
    st.floats(0.01, 0.5),
    st.integers(0, 9),
)
def test_no_document_is_on_both_sides_or_twice_on_one(
    corpus: list[tuple[str, list[tuple[int, int]]]], fraction: float, seed: int
) -> None:
    domains = [domain(role, documents) for role, documents in corpus]
    sides = split(domains, fraction, seed)
    names = [
        name
        for each, side in zip(domains, sides, strict=True)
        for name in each.hashes[np.concatenate([side.training, side.held_out])].tolist()
    ]
    assert len(names) == len(set(names))
    assert set(names) == {name for each in domains for name in each.hashes.tolist()}


@given(DOCUMENTS, st.floats(0.01, 0.5), st.integers(0, 9))
def test_both_sides_get_a_document_where_there_are_two(
    documents: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    pool = domain("pool", documents)
    (side,) = split([pool], fraction, seed)
    distinct = len(set(pool.hashes.tolist()))
    assert len(side.training) >= min(1, distinct)
    assert len(side.held_out) >= (distinct >= 2)


def sizes_of(sizes: list[int], fraction: float) -> tuple[Domain, Sides]:
    pool = Domain("pool", np.arange(len(sizes), dtype=np.uint64), np.array(sizes, np.int64))
    return pool, split([pool], fraction, 0)[0]


def test_the_share_held_out_is_of_text_within_one_document() -> None:
    pool, side = sizes_of([int(x) for x in np.random.default_rng(0).integers(1, 100, 1000)], 0.05)
    held = pool.characters[side.held_out].sum()
    assert 0 <= held - 0.05 * pool.characters.sum() <= 100


def test_a_document_that_is_most_of_its_domain_is_trained_on() -> None:
    for seed in range(5):
        pool = domain("pool", [])
        pool = Domain("pool", np.arange(3, dtype=np.uint64), np.array([10, 1000, 10], np.int64))
        assert 1 in split([pool], 0.5, seed)[0].training


def test_a_source_held_out_altogether_trains_nothing_and_takes_its_copies_along() -> None:
    everywhere = [(1, 0), (2, 0), (3, 0), (4, 0)]
    pool, wiki = split([domain("pool", everywhere), domain("held_out", everywhere[:2])], 0.1, 0)
    assert wiki.held_out.tolist() == [0, 1]
    assert wiki.training.size == 0
    assert set(np.concatenate([pool.training, pool.held_out]).tolist()) == {2, 3}


def test_a_document_keeps_its_side_in_whatever_order_the_corpus_is_read() -> None:
    documents = [(name, 0) for name in range(40)]
    forward = domain("pool", documents)
    backward = domain("pool", documents[::-1])
    held = [d.hashes[split([d], 0.2, 3)[0].held_out].tolist() for d in (forward, backward)]
    assert sorted(held[0]) == sorted(held[1])


@given(st.integers(4, 40), st.integers(0, 9))
def test_no_more_is_held_out_than_reaches_the_fraction(count: int, seed: int) -> None:
    """Of equally long documents: the fewest that are a quarter, and not one more."""
    documents = Domain("pool", np.arange(count, dtype=np.uint64), np.full(count, 8, np.int64))
    [sides] = split([documents], 0.25, seed)
    assert len(sides.held_out) == -(-count // 4)
