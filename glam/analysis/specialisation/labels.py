"""What a token is, beside the expert it went to, and how documents are shuffled.

Tokens of a document depend on each other, so documents are what is drawn, shuffled and resampled.
A null from shuffled tokens is several times too small.
"""

from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Documents:
    """Tokens end to end, document after document: document `d` is `offsets[d]:offsets[d + 1]`.
    `strata [D]` is what the documents are balanced by when they are split: their domain."""

    offsets: Ints
    strata: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        return np.diff(self.offsets)

    @property
    def of_token(self) -> Ints:
        """The document of every token `[N]`."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def laid_out(self, order: Ints) -> Ints:
        """Indices of the tokens `[N]` with the documents in that order, end to end."""
        lengths = self.lengths[order]
        ends = np.cumsum(lengths)
        starts = self.offsets[:-1][order] - (ends - lengths)
        return cast(Ints, np.repeat(starts, lengths) + np.arange(ends[-1]))

    def halves(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Whether a document `[D]` is in the first half: half of each stratum, at random."""
        first = np.zeros(len(self), bool)
        for stratum in np.unique(self.strata):
            members = rng.permutation(np.flatnonzero(self.strata == stratum))
            first[members[: (len(members) + 1) // 2]] = True
        return first


@dataclass(frozen=True, eq=False)
class Labels:
    """A label of every token, an index into `names`. `of_documents`: the tokens of a document
    share theirs, as they do their domain."""

    about: str  # "token", "class" or "domain"
    values: Ints
    names: list[str]
    of_documents: bool = False

    def shuffled(self, documents: Documents, rng: np.random.Generator) -> Ints:
        """Labels `[N]` of other documents. Those of whole documents are dealt anew; else the
        documents' labels are laid end to end in a random order, so that neighbouring tokens keep
        neighbouring labels."""
        if self.of_documents:
            whole = self.values[documents.offsets[:-1]]
            return _dealt(whole, documents.lengths, rng)[documents.of_token]
        return self.values[documents.laid_out(rng.permutation(len(documents)))]


def _dealt(labels: Ints, lengths: Ints, rng: np.random.Generator) -> Ints:
    """A label for every document `[D]`, each label keeping its number of tokens: the longest
    documents first, each to a label drawn by the tokens that it has left. Swapping labels would
    hand that of two books to two tweets, and hide how much two books vary."""
    room = np.bincount(labels, lengths).tolist()
    found = np.empty_like(labels)
    order = rng.permutation(len(labels))
    order = order[np.argsort(-lengths[order], kind="stable")]
    draws = rng.random(len(labels)).tolist()
    for document, length, draw in zip(order.tolist(), lengths[order].tolist(), draws, strict=True):
        mark, label = draw * sum(max(r, 0.0) for r in room), 0
        while label < len(room) - 1 and mark >= max(room[label], 0.0):
            mark -= max(room[label], 0.0)
            label += 1
        found[document] = label
        room[label] -= length
    return found
