"""Packing against its slow definition: a loop over documents and their tokens."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.data import Component, PreparedData, TrainStream
from glam.data.stream import mixture_cycle

EOS = 2


class Vocabulary(NamedTuple):
    """As much of a tokenizer as packing needs."""

    eos: int = EOS


def component(name: str, weight: float, lengths: list[int], source: int = 0) -> Component:
    """Documents of distinct tokens, so that each slot tells where it is from."""
    ends = np.cumsum([0, *lengths])
    return Component(
        name=name,
        weight=weight,
        parts=(np.arange(ends[-1], dtype=np.uint32) + 1000 * (source + 1),),
        sources=np.array([source], np.uint8),
        part=np.zeros(len(lengths), np.uint8),
        starts=ends[:-1].astype(np.int64),
        lengths=np.array(lengths, np.int64),
    )


def data_of(*components: Component) -> PreparedData:
    return PreparedData("", Vocabulary(), [], list(components), {}, [], {})  # type: ignore[arg-type]


def stretches(each: Component, sequence: int) -> list[list[tuple[int, int]]]:
    """(token, target) of every slot, in runs of at most four rows of one document."""
    cut: list[list[tuple[int, int]]] = []
    for start, length in zip(each.starts, each.lengths, strict=True):
        tokens = each.parts[0][start : start + length].tolist()
        slots = list(zip(tokens, [*tokens[1:], EOS], strict=True))
        cut += [slots[i : i + 4 * sequence] for i in range(0, len(slots), 4 * sequence)]
    return cut


def slow_rows(
    pieces: list[list[tuple[int, int]]], order_of: list[list[int]], length: int
) -> list[list[tuple[int, int, int]]]:
    """(token, target, number of its stretch) of every slot, row by row, for a few epochs."""
    order = [piece for epoch in order_of for piece in epoch]
    slots = [(*slot, number) for number, piece in enumerate(order) for slot in pieces[piece]]
    return [slots[i : i + length] for i in range(0, len(slots) - length, length)]


@settings(deadline=None)
@given(st.lists(st.integers(2, 60), min_size=1, max_size=12), st.integers(1, 40), st.integers(0, 5))
def test_rows_are_stretches_of_documents_end_to_end_epoch_after_epoch(
    lengths: list[int], sequence: int, seed: int
) -> None:
    each = component("books", 1.0, lengths)
    stream = TrainStream(data_of(each), sequence, 1, seed)
    pieces = stretches(each, sequence)
    orders = [orders_seen(stream, each, pieces, epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(len(pieces)))
    for index, row in enumerate(slow_rows(pieces, orders, sequence)):
        batch = stream.batch(index)
        assert batch.tokens[0].tolist() == [token for token, _, _ in row]
        assert batch.targets[0].tolist() == [target for _, target, _ in row]
        assert batch.segments[0].tolist() == [number - row[0][2] for *_, number in row]


def orders_seen(
    stream: TrainStream, each: Component, pieces: list[list[tuple[int, int]]], epoch: int
) -> list[int]:
    """The stretches in the order of an epoch, as a batch of one slot a row shows it."""
    slots = each.num_tokens
    one = TrainStream(data_of(each), 1, slots, 0)
    one._runs = stream._runs  # the same seed and permutations
    number_of = {piece[0][0]: number for number, piece in enumerate(pieces)}
    tokens = one.batch(epoch).tokens[:, 0].tolist()
    return [number_of[token] for token in tokens if token in number_of]


def test_a_batch_follows_from_its_number_alone(prepared: PreparedData) -> None:
    forward = TrainStream(prepared, 32, 4, seed=1)
    batches = [forward.batch(i) for i in range(300)]
    for i in (299, 0, 150, 151, 3):
        for again in (TrainStream(prepared, 32, 4, seed=1).batch(i), forward.batch(i)):
            for a, b in zip(again, batches[i], strict=True):
                np.testing.assert_array_equal(a, b)
    other = TrainStream(prepared, 32, 4, seed=2).batch(0)
    assert not np.array_equal(other.tokens, batches[0].tokens)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_however_many_processes_share_the_rows_the_stream_is_the_same(
    prepared: PreparedData, size: int
) -> None:
    """Each reads its own rows alone, and together they are the batch."""
    stream = TrainStream(prepared, 16, 8, seed=0)
    for index in (0, 3, 1000):
        cuts = [range(8 * rank // size, 8 * (rank + 1) // size) for rank in range(size)]
        parts = [TrainStream(prepared, 16, 8, seed=0).batch(index, rows) for rows in cuts]
        for whole, *each in zip(stream.batch(index), *parts, strict=True):
            assert np.array_equal(whole, np.concatenate(each))


def test_resuming_twice_sees_every_document_once_an_epoch() -> None:
    """Two breaks, both late in an epoch: a stream that only resumed its first buffer would lose
    documents here."""
    each = component("books", 1.0, [5] * 400)
    seen: list[int] = []
    for start, stop in ((0, 70), (70, 185), (185, 200)):
        resumed = TrainStream(data_of(each), 10, 2, seed=0)
        for i in range(start, stop):
            seen += resumed.batch(i).tokens.ravel().tolist()
    first, second = np.array(seen[:2000]), np.array(seen[2000:])
    for epoch in (first, second):
        assert sorted(epoch.tolist()) == sorted(each.parts[0].tolist())
    assert not np.array_equal(first, second)


def test_epochs_counts_what_was_seen() -> None:
    prepared = data_of(component("webpages", 0.75, [7] * 50), component("books", 0.25, [9] * 30, 1))
    stream = TrainStream(prepared, 6, 4, seed=0)
    batches = [stream.batch(i) for i in range(100)]
    sources = np.concatenate([batch.sources.ravel() for batch in batches])
    assert stream.epochs(100) == {
        "webpages": (sources == 0).sum() / 350,
        "books": (sources == 1).sum() / 270,
    }
    assert stream.epochs(0) == {"webpages": 0.0, "books": 0.0}


@given(st.lists(st.floats(0.02, 1), min_size=1, max_size=6))
def test_the_mixture_keeps_to_its_weights_at_every_length(weights: list[float]) -> None:
    cycle = mixture_cycle(weights)
    shares = np.array(weights) / sum(weights)
    counts = (cycle[:, None] == np.arange(len(weights))).cumsum(0)
    expected = np.arange(1, len(cycle) + 1)[:, None] * shares
    assert np.abs(counts - expected).max() <= len(weights) + 1
    assert np.abs(counts[-1] / len(cycle) - shares).max() <= 1e-4


def test_the_pattern_of_components_runs_on_past_its_cycle() -> None:
    prepared = data_of(component("webpages", 0.7, [4] * 9), component("books", 0.3, [5] * 9, 1))
    stream = TrainStream(prepared, 3, 8, seed=0)
    shares = [stream.epochs(n)["books"] * 45 / (n * 24) for n in (1250, 2500, 12500)]
    assert shares == pytest.approx([0.3] * 3)
    # The rows of a component go on where the cycle before left it.
    last, first = stream.batch(1249), stream.batch(1250)
    whole = TrainStream(prepared, 3, 16, seed=0).batch(625)
    np.testing.assert_array_equal(whole.tokens[:8], stream.batch(1250).tokens)
    assert not np.array_equal(last.tokens, first.tokens)


def test_every_row_is_of_one_component_and_segments_count_up(prepared: PreparedData) -> None:
    stream = TrainStream(prepared, 64, 8, seed=0)
    of = {s: i for i, c in enumerate(prepared.components) for s in c.sources.tolist()}
    for i in range(20):
        batch = stream.batch(i)
        for row in range(8):
            assert len({of[s] for s in batch.sources[row].tolist()}) == 1
            steps = [b - a for a, b in pairwise(batch.segments[row].tolist())]
            assert batch.segments[row, 0] == 0
            assert set(steps) <= {0, 1}
        bos, eos = prepared.tokenizer.bos, prepared.tokenizer.eos
        # Where a document begins, or the one before has its end as target, a segment begins;
        # else the target is the token that follows, also where the stretch ends in mid-document.
        begins = np.diff(batch.segments) == 1
        assert begins[batch.tokens[:, 1:] == bos].all()
        assert begins[batch.targets[:, :-1] == eos].all()
        np.testing.assert_array_equal(batch.targets[:, :-1][~begins], batch.tokens[:, 1:][~begins])


def test_a_long_document_is_spread_over_the_epoch() -> None:
    book, notes = [4000], [10] * 400
    each = component("books", 1.0, book + notes)
    stream = TrainStream(data_of(each), 10, 10, seed=0)
    from_book = [int((stream.batch(i).tokens < 1000 + 4000).sum()) for i in range(80)]
    assert sum(from_book) == 4000
    # In one piece it would fill 40 batches on end and be absent from the other 40.
    assert np.mean([0 < count < 100 for count in from_book]) > 0.8


def test_components_are_ordered_apart() -> None:
    """Equal documents in two components: neither follows from the other."""
    lengths = [1 + n % 7 for n in range(60)]
    pair = [component(name, 0.5, lengths, source=0) for name in ("books", "webpages")]
    stream = TrainStream(data_of(*pair), 8, 2, seed=0)
    rows = np.concatenate([stream.batch(i).tokens for i in range(12)])
    books, webpages = rows[::2], rows[1::2]  # even weights: they take turns
    assert not any((one == other).all() for one, other in zip(books, webpages, strict=True))
