"""Held-out text as batches, with the bytes that its tokens cover."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.data.prepared import PreparedData


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
    targets, rows = _targets_and_rows(prepared, domain, sequence_length, max_tokens)
    tokens = prepared.held_out[domain].tokens
    starts = prepared.held_out[domain].offsets[:-1]
    for first in range(0, len(rows), batch_size):
        slots = _slots(rows[first : first + batch_size], sequence_length, batch_size)
        mask = (slots >= 0) & (slots < len(tokens))
        inside = np.where(mask, slots, 0)
        document = np.where(mask, np.searchsorted(starts, inside, side="right"), len(starts) + 1)
        yield HeldOutBatch(
            np.where(mask, tokens[inside], prepared.tokenizer.eos).astype(np.int64),
            np.where(mask, targets[inside], prepared.tokenizer.eos).astype(np.int64),
            (document - document[:, :1]).astype(np.int32),
            mask,
            document - 1,
        )


def held_out_bytes(
    prepared: PreparedData, domain: str, sequence_length: int, max_tokens: int | None = None
) -> int:
    """UTF-8 bytes of the text that the targets of `held_out` encode; eos counts as none."""
    targets, rows = _targets_and_rows(prepared, domain, sequence_length, max_tokens)
    slots = _slots(rows, sequence_length, len(rows))
    covered = targets[slots[slots < len(targets)]]
    return int(prepared.tokenizer.num_bytes[covered].sum(dtype=np.int64))


def _targets_and_rows(
    prepared: PreparedData, domain: str, sequence_length: int, max_tokens: int | None
) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    encoded = prepared.held_out[domain]
    targets = np.append(encoded.tokens[1:], encoded.tokens[:0].dtype.type(prepared.tokenizer.eos))
    targets[encoded.offsets[1:] - 1] = prepared.tokenizer.eos
    every = -(-len(targets) // sequence_length)
    chosen = every if max_tokens is None else min(every, max(1, max_tokens // sequence_length))
    return targets, np.arange(chosen) * every // chosen


def _slots(rows: NDArray[np.int64], sequence_length: int, batch_size: int) -> NDArray[np.int64]:
    """Index of the slot at each position of a batch `[batch, sequence]`; -1 in rows of padding."""
    slots = np.full((batch_size, sequence_length), -1)
    slots[: len(rows)] = rows[:, None] * sequence_length + np.arange(sequence_length)
    return slots
