"""Rows of a component of any size, by the slow definition: documents end to end, cut into rows."""

from types import SimpleNamespace

import numpy as np
import pytest

from glam.data import prepared as prepared_module
from glam.data.packed import PackedComponent
from glam.data.prepared import Component, join
from glam.data.stream import TrainStream
from glam.data.tokens import Encoded

EOS, LENGTH = 3, 8


def encoded(rng, documents: int) -> Encoded:
    lengths = rng.integers(1, 20, documents)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(4, 60_000, offsets[-1]).astype(np.uint16)
    return Encoded(tokens, offsets, np.arange(documents, dtype=np.uint64), lengths)


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.setattr(prepared_module, "MOST_ORDERED", 10)
    rng = np.random.default_rng(0)
    return [(source, encoded(rng, count), None) for source, count in ((0, 30), (4, 1), (2, 25))]


def stream(component, seed=0) -> TrainStream:
    whole = SimpleNamespace(components=[component], tokenizer=SimpleNamespace(eos=EOS))
    return TrainStream(whole, LENGTH, 4, seed)  # type: ignore[arg-type]


def slow_rows(parts) -> list[tuple[list[int], ...]]:
    """(tokens, targets, segments, sources) of every row, slot by slot."""
    slots = []
    for source, one, _ in parts:
        for document in range(len(one)):
            tokens = one.document(document).tolist()
            for token, target in zip(tokens, [*tokens[1:], EOS], strict=True):
                slots.append((token, target, (source, document), source))
    rows = []
    for start in range(0, len(slots) - LENGTH + 1, LENGTH):
        row = slots[start : start + LENGTH]
        names = list(dict.fromkeys(document for *_, document, _ in row))
        row = [(t, n, names.index(document), source) for t, n, document, source in row]
        rows.append(tuple(list(column) for column in zip(*row, strict=True)))
    return rows


def rows_of(stream: TrainStream, numbers: range) -> list[tuple[list[int], ...]]:
    found = []
    for number in numbers:
        batch = stream.batch(number // 4)
        found.append(tuple(array[number % 4].tolist() for array in batch))
    return found


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(parts):
    expected = slow_rows(parts)
    one = join("books", 1.0, parts)
    assert isinstance(one, PackedComponent)
    rows = len(expected)
    first, second = (rows_of(stream(one), range(e * rows, (e + 1) * rows)) for e in (0, 1))
    assert sorted(first) == sorted(second) == sorted(expected)
    assert first != expected
    assert first != second
    assert stream(one).epochs(10)["books"] == pytest.approx(40 / rows)


def test_the_order_follows_from_the_seed(parts):
    one = join("books", 1.0, parts)
    assert rows_of(stream(one), range(20)) == rows_of(stream(one), range(20))
    assert rows_of(stream(one), range(20)) != rows_of(stream(one, seed=1), range(20))


def test_documents_of_which_some_are_kept_or_that_are_few_are_ordered_themselves(parts):
    few = parts[1:2]
    assert isinstance(join("books", 1.0, few), Component)
    some = [(source, one, np.ones(len(one), bool)) for source, one, _ in parts]
    kept = join("books", 1.0, some)
    assert isinstance(kept, Component)
    assert kept.num_tokens == join("books", 1.0, parts).num_tokens
