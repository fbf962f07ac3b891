"""Held-out text as batches, with the bytes that its tokens cover."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.data.prepared import PreparedData
from glam.data.tokens import Encoded

_ROWS = 1024  # looked at at once


class HeldOutBatch(NamedTuple):
    """As `Batch`, `[batch, sequence]` each; where `mask` is False a slot is padding. `documents`
    numbers the documents of the domain."""

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    segments: NDArray[np.int32]
    mask: NDArray[np.bool_]
    documents: NDArray[np.int64]


def held_out(
    prepared: PreparedData,
    domain: str,
    sequence_length: int,
    batch_size: int,
    max_tokens: int | None = None,
) -> Iterator[HeldOutBatch]:
    """The held-out documents of a domain, packed end to end into rows. Of more than `max_tokens`,
    evenly spaced rows are taken: the first documents need not be typical."""
    encoded = prepared.held_out[domain]
    eos = prepared.tokenizer.eos
    rows = _rows(len(encoded.tokens), sequence_length, max_tokens)
    for first in range(0, len(rows), batch_size):
        slots = _slots(rows[first : first + batch_size], sequence_length, batch_size)
        mask = (slots >= 0) & (slots < len(encoded.tokens))
        inside = np.where(mask, slots, 0)
        targets, document = _targets(encoded, inside, eos)
        document = np.where(mask, document + 1, len(encoded) + 1)
        yield HeldOutBatch(
            np.where(mask, encoded.tokens[inside], eos).astype(np.int64),
            np.where(mask, targets, eos).astype(np.int64),
            (document - document[:, :1]).astype(np.int32),
            mask,
            document - 1,
        )


def held_out_bytes(
    prepared: PreparedData, domain: str, sequence_length: int, max_tokens: int | None = None
) -> int:
    """UTF-8 bytes of the text that the targets of `held_out` encode; eos counts as none."""
    encoded = prepared.held_out[domain]
    rows = _rows(len(encoded.tokens), sequence_length, max_tokens)
    total = 0
    for first in range(0, len(rows), _ROWS):  # held-out text may be of any size
        some = rows[first : first + _ROWS]
        slots = _slots(some, sequence_length, len(some))
        covered, _ = _targets(encoded, slots[slots < len(encoded.tokens)], prepared.tokenizer.eos)
        total += int(prepared.tokenizer.num_bytes[covered].sum(dtype=np.int64))
    return total


def _rows(num_slots: int, sequence_length: int, max_tokens: int | None) -> NDArray[np.int64]:
    every = -(-num_slots // sequence_length)
    chosen = every if max_tokens is None else min(every, max(1, max_tokens // sequence_length))
    return np.arange(chosen) * every // chosen


def _targets(
    encoded: Encoded, slots: NDArray[np.int64], eos: int
) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """The token after each slot, eos after a document's last one, and the slot's document."""
    document = np.searchsorted(encoded.offsets, slots, side="right") - 1
    is_last = encoded.offsets[document + 1] - 1 == slots
    following = encoded.tokens[np.where(is_last, slots, slots + 1)]
    return np.where(is_last, following.dtype.type(eos), following), document


def _slots(rows: NDArray[np.int64], sequence_length: int, batch_size: int) -> NDArray[np.int64]:
    """Index of the slot at each position of a batch `[batch, sequence]`; -1 in rows of padding."""
    slots = np.full((batch_size, sequence_length), -1)
    slots[: len(rows)] = rows[:, None] * sequence_length + np.arange(sequence_length)
    return slots
