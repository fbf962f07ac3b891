"""Endless training batches whose position is one integer.

Each row belongs to one component. A component is an endless run of slots: epoch after epoch, its
documents in an order drawn anew, packed end to end; its rows are consecutive windows of it, so a
row may start within a document. A document longer than a few rows is cut into stretches that are
ordered apart: one book would else fill its component for hundreds of steps on end. Which component
a row belongs to follows a fixed cycle that keeps to the mixture's weights at every length. So batch
`i` follows from `i` alone.

Of a component of more than a million documents rows are ordered, not documents
(`glam.data.packed`): nothing is then held in memory for each.
"""

from types import EllipsisType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.config import COMPONENTS
from glam.data.packed import PackedComponent, PackedRun
from glam.data.prepared import Component, PreparedData

_CYCLE = 10_000  # rows after which the mixture's pattern repeats
_STRETCH = 4  # rows of one document on end


class Batch(NamedTuple):
    """`[batch, sequence]` each. The target of a document's last token is eos, so every slot has
    one. Segments number the documents within a row; sources index `PreparedData.sources`."""

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    segments: NDArray[np.int32]
    sources: NDArray[np.uint8]


def empty_batch(batch_size: int, sequence_length: int) -> Batch:
    """Zeros `[batch_size, sequence_length]` in each array, to be filled in place."""
    shape = (batch_size, sequence_length)
    return Batch(
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.uint8),
    )


class TrainStream:
    """Batches of `batch_size` rows; the same for equal data, shape and seed."""

    def __init__(
        self, prepared: PreparedData, sequence_length: int, batch_size: int, seed: int
    ) -> None:
        self.sequence_length, self.batch_size = sequence_length, batch_size
        self._names = [component.name for component in prepared.components]
        self._runs = [
            _run_of(component, prepared.tokenizer.eos, seed, sequence_length)
            for component in prepared.components
        ]
        self._cycle = mixture_cycle([component.weight for component in prepared.components])
        # How many rows of its component come before each row of the cycle.
        members = self._cycle[:, None] == np.arange(len(self._runs))
        self._before = np.vstack([np.zeros(len(self._runs), int), members.cumsum(0)])

    def batch(self, index: int, rows: range | None = None) -> Batch:
        """Batch `index`, or some `rows` of it: each row depends on its number only, so a process
        reads no other process's rows."""
        rows = range(self.batch_size) if rows is None else rows
        batch = empty_batch(len(rows), self.sequence_length)
        for row, number in enumerate(index * self.batch_size + row for row in rows):
            kind = int(self._cycle[number % _CYCLE])
            first = int(self._rows_before(number, kind)) * self.sequence_length
            self._runs[kind].fill(batch, row, first)
        return batch

    def epochs(self, num_batches: int) -> dict[str, float]:
        """Epochs of each component that `num_batches` batches take."""
        slots = self._rows_before(num_batches * self.batch_size, ...) * self.sequence_length
        return {
            name: float(seen / run.num_positions)
            for name, seen, run in zip(self._names, slots, self._runs, strict=True)
        }

    def _rows_before(self, number: int, kind: int | EllipsisType) -> NDArray[np.int64]:
        """Rows of a component, or of each, among the first `number`."""
        cycles, rest = divmod(number, _CYCLE)
        return cycles * self._before[-1, kind] + self._before[rest, kind]


def mixture_cycle(weights: list[float]) -> NDArray[np.int64]:
    """The component of each row of a cycle: counts by largest remainder, each component spread
    evenly."""
    shares = np.array(weights) / sum(weights) * _CYCLE
    counts = np.floor(shares).astype(np.int64)
    counts[np.argsort(counts - shares, kind="stable")[: _CYCLE - counts.sum()]] += 1
    kind = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(_CYCLE) - (np.cumsum(counts) - counts)[kind]
    return kind[np.argsort((rank + 0.5) / counts[kind], kind="stable")]


def _run_of(
    component: Component | PackedComponent, eos: int, seed: int, length: int
) -> "_EndlessRun | PackedRun":
    if isinstance(component, PackedComponent):
        return PackedRun(component, eos, seed, length)
    return _EndlessRun(component, eos, seed, _STRETCH * length)


class _EndlessRun:
    """The endless sequence of one component's slots, epoch after epoch."""

    def __init__(self, component: Component, eos: int, seed: int, stretch: int) -> None:
        self._component, self._eos = component, eos
        pieces: NDArray[np.int64] = -(-component.lengths // stretch)
        before: NDArray[np.int64] = np.cumsum(pieces) - pieces
        # [stretches]: the document of each, where it begins in it, and its length.
        self._document: NDArray[np.int64] = np.repeat(np.arange(len(pieces)), pieces)
        number: NDArray[np.int64] = np.arange(len(self._document)) - before[self._document]
        self._begin: NDArray[np.int64] = np.multiply(number, stretch)
        left: NDArray[np.int64] = component.lengths[self._document] - self._begin
        self._lengths: NDArray[np.int64] = np.minimum(left, stretch)
        self._key = [seed, COMPONENTS.index(component.name)]
        self.num_positions = component.num_tokens
        self._orders: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def fill(self, batch: Batch, row: int, position: int) -> None:
        """Write the window that starts at slot `position` into a row."""
        length = batch.tokens.shape[1]
        done = segment = 0
        while done < length:
            epoch, within = divmod(position + done, self.num_positions)
            order, ends = self._order(epoch)
            rank = int(np.searchsorted(ends, within, side="right"))
            piece = int(order[rank])
            skipped = within - (int(ends[rank]) - int(self._lengths[piece]))
            done += self._copy(batch, row, done, piece, skipped, segment)
            segment += 1

    def _copy(self, batch: Batch, row: int, at: int, piece: int, skipped: int, segment: int) -> int:
        component, document = self._component, int(self._document[piece])
        part = int(component.part[document])
        tokens = component.parts[part]
        start = int(component.starts[document])
        end = start + int(component.lengths[document])  # a stretch is followed by the next one's
        begin = start + int(self._begin[piece])
        taken = tokens[begin + skipped : begin + int(self._lengths[piece])]
        taken = taken[: batch.tokens.shape[1] - at]
        stop = at + len(taken)
        batch.tokens[row, at:stop] = taken
        following = tokens[begin + skipped + 1 : end][: len(taken)]
        batch.targets[row, at : at + len(following)] = following
        batch.targets[row, at + len(following) : stop] = self._eos
        batch.segments[row, at:stop] = segment
        batch.sources[row, at:stop] = component.sources[part]
        return len(taken)

    def _order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The stretches in the order of an epoch, and where each ends."""
        if epoch not in self._orders:
            rng = np.random.default_rng([*self._key, epoch])
            order = rng.permutation(len(self._lengths))
            # A row may straddle two epochs; older ones are not needed again.
            self._orders = {e: o for e, o in self._orders.items() if abs(e - epoch) == 1}
            self._orders[epoch] = order, np.cumsum(self._lengths[order])
        return self._orders[epoch]
