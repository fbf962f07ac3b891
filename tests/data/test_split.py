"""The split over shards against its slow definition: one sorted list of a domain's documents."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glam.data import split as splitting
from glam.data.hashing import uniform
from glam.data.split import Divided, Sides, write_sides

ROLES = st.sampled_from(["held_out", "curated", "pool"])
DOCUMENTS = st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 1000)), max_size=30)
SHARDS = st.lists(DOCUMENTS, min_size=1, max_size=3)


def divide(root: Path, domains, fraction: float, seed: int, copies=None) -> list[list[Sides]]:
    """Sides of shards `[domain][shard]` of documents `(hash, characters)`."""
    divided: list[Divided] = []
    (root / "sides").mkdir()
    for number, (_, shards) in enumerate(domains):
        for documents in shards:
            folder = root / str(len(divided))
            folder.mkdir()
            np.save(folder / "hashes.npy", np.array([d[0] for d in documents], np.uint64))
            for name in ("characters", "num_bytes"):
                np.save(folder / f"{name}.npy", np.array([d[1] for d in documents], np.int64))
            is_copy = np.zeros(len(documents), np.uint8) if copies is None else copies
            np.save(root / f"{len(divided)}.npy", is_copy)
            divided.append(Divided(folder, root / f"{len(divided)}.npy", number))
    write_sides(root / "sides", divided, [role for role, _ in domains], fraction, seed)
    found: list[list[Sides]] = [[] for _ in domains]
    for place, shard in enumerate(divided):
        found[shard.domain].append(Sides.read(root / "sides" / f"{place}.npy"))
    return found


def of(domains, fraction=0.1, seed=0, copies=None) -> list[list[Sides]]:
    with tempfile.TemporaryDirectory() as root:
        return divide(Path(root), domains, fraction, seed, copies)


def slow(shards, fraction: float, seed: int) -> list[tuple[int, int]]:
    """Which documents (shard, place) are held out: one after the other, by their draws."""
    every = [(s, i, *d) for s, documents in enumerate(shards) for i, d in enumerate(documents)]
    draws = uniform(np.array([name for *_, name, _ in every], np.uint64), seed, "held out")
    total, held, taken = sum(size for *_, size in every), 0, []
    for rank in np.argsort(draws, kind="stable"):
        shard, place, _, size = every[rank]
        if held < fraction * total and size <= total / 2:
            taken.append((shard, place))
            held += size
    return sorted(taken)


@pytest.mark.parametrize("bins", [2, 1 << 16])
@given(
    domains=st.lists(st.tuples(ROLES, SHARDS), min_size=1, max_size=3),
    fraction=st.floats(0.01, 0.5),
    seed=st.integers(0, 9),
)
def test_documents_are_held_out_in_the_order_of_their_draws_over_all_shards(
    bins: int, domains, fraction: float, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "_BINS", bins)
        found = of(domains, fraction, seed)
    for (role, shards), sides in zip(domains, found, strict=True):
        held = [(s, i) for s, side in enumerate(sides) for i in side.held_out.tolist()]
        every = [(s, i) for s, documents in enumerate(shards) for i in range(len(documents))]
        assert held == (every if role == "held_out" else slow(shards, fraction, seed))
        trained = [(s, i) for s, side in enumerate(sides) for i in side.training.tolist()]
        assert sorted(held + trained) == every


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=30), st.floats(0.01, 0.5))
def test_both_sides_get_a_document_where_there_are_two(sizes: list[int], fraction: float) -> None:
    [[side]] = of([("pool", [list(enumerate(sizes))])], fraction)
    assert len(side.training)
    # Of two documents of which one is most of the text, the other is held out.
    assert len(side.held_out)


def test_the_share_held_out_is_of_text_within_one_document() -> None:
    sizes = np.random.default_rng(0).integers(1, 100, 1000)
    shards = [list(enumerate(sizes.tolist()))[:400], list(enumerate(sizes.tolist()))[400:]]
    [sides] = of([("pool", shards)], 0.05)
    held = sum(sizes[k * 400 + i] for k, side in enumerate(sides) for i in side.held_out)
    assert 0 <= held - 0.05 * sizes.sum() <= 100


def test_a_document_that_is_most_of_its_domain_is_trained_on() -> None:
    for seed in range(5):
        [[side]] = of([("pool", [[(0, 10), (1, 1000), (2, 10)]])], 0.5, seed)
        assert 1 in side.training


def test_copies_are_on_neither_side_and_are_counted_by_kind(tmp_path: Path) -> None:
    documents = [(name, 10) for name in range(6)]
    copies = np.array([0, 1, 0, 2, 2, 0], np.uint8)
    [[side]] = divide(tmp_path, [("pool", [documents])], 0.5, 0, copies)
    assert sorted([*side.training, *side.held_out]) == [0, 2, 5]
    [counts] = json.loads((tmp_path / "sides" / "counts.json").read_text())
    assert counts["exact copies"] == [1, 10, 10]
    assert counts["near copies"] == [2, 20, 20]
    assert counts["distinct"] == [3, 30, 30]
    assert counts["read"] == [6, 60, 60]


def test_a_document_keeps_its_side_in_whatever_order_the_corpus_is_read() -> None:
    documents = [(name, 10) for name in range(40)]
    [[forward]] = of([("pool", [documents])], 0.2, 3)
    [[one, two]] = of([("pool", [documents[::-1][:7], documents[::-1][7:]])], 0.2, 3)
    backward = [39 - i for i in one.held_out] + [32 - i for i in two.held_out]
    assert sorted(backward) == forward.held_out.tolist()
