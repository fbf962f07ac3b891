"""A component of any size: its documents end to end, cut into rows, and the rows in random order.

Nothing is held per document or per row: tokens and offsets are memory-mapped, and the order is a
function (`Permutation`). Rows are consecutive windows of the documents as they are stored, so a row
may start within a document, and the next row of that document comes at another time.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from glam.data.permutation import Permutation
from glam.data.tokens import Encoded


class Rows(Protocol):
    """Arrays of a batch `[batch, sequence]` that a row is written into."""

    @property
    def tokens(self) -> NDArray[np.int64]: ...
    @property
    def targets(self) -> NDArray[np.int64]: ...
    @property
    def segments(self) -> NDArray[np.int32]: ...
    @property
    def sources(self) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, eq=False)
class PackedComponent:
    """One component of the mixture, of all the documents in `parts`."""

    name: str
    weight: float  # share of the training tokens
    parts: tuple[Encoded, ...]
    sources: NDArray[np.uint8]  # of each part, an index into `PreparedData.sources`

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Slots up to the end of each part `[parts]`."""
        return np.cumsum([len(part.tokens) for part in self.parts], dtype=np.int64)

    @property
    def num_tokens(self) -> int:
        """Slots of one epoch, a bos for each document included."""
        return int(self.ends[-1])


class PackedRun:
    """The endless sequence of a packed component's rows of `length`, epoch after epoch."""

    def __init__(self, component: PackedComponent, eos: int, seed: int, length: int) -> None:
        self._component, self._eos, self._length = component, eos, length
        self._rows = component.num_tokens // length  # what is left over at the end is less than one
        self._key = f"{seed}/{component.name}"
        self.num_positions = self._rows * length

    def fill(self, batch: Rows, row: int, position: int) -> None:
        """Write the row that starts at slot `position`, a multiple of the length, into a row."""
        epoch, number = divmod(position // self._length, self._rows)
        slot = Permutation(self._rows, f"{self._key}/{epoch}")[number] * self._length
        done = segments = 0
        while done < self._length:
            part = int(np.searchsorted(self._component.ends, slot + done, side="right"))
            taken, documents = self._copy(batch, row, done, slot + done, part, segments)
            done, segments = done + taken, segments + documents

    def _copy(
        self, batch: Rows, row: int, at: int, slot: int, part: int, segment: int
    ) -> tuple[int, int]:
        """Slots of one part, as many as are left of it or of the row; their number, and of how many
        documents they are."""
        encoded = self._component.parts[part]
        first = slot - (int(self._component.ends[part]) - len(encoded.tokens))
        last = min(first + self._length - at, len(encoded.tokens))
        here = slice(at, at + last - first)
        before = int(np.searchsorted(encoded.offsets, first, side="right")) - 1
        ends = encoded.offsets[before + 1 : before + 2 + last - first]
        ends = ends[: int(np.searchsorted(ends, last, side="left")) + 1]
        batch.tokens[row, here] = encoded.tokens[first:last]
        following = encoded.tokens[first + 1 : last + 1]
        batch.targets[row, at : at + len(following)] = following
        batch.targets[row, at + ends[ends <= last] - first - 1] = self._eos
        lengths = np.diff(np.minimum(ends, last), prepend=first)
        batch.segments[row, here] = np.repeat(np.arange(segment, segment + len(ends)), lengths)
        batch.sources[row, here] = self._component.sources[part]
        return last - first, len(ends)
