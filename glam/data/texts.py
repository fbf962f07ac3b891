"""The text itself on its two sides, as words that a person reads: whatever the filter keeps of it,
and before a tokenizer cuts it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from glam.config import Source
from glam.data.cache import Cache
from glam.data.documents import Documents
from glam.data.hashing import uniform
from glam.data.pipeline import Pipeline
from glam.data.split import Sides


class Texts:
    """Held-out and training documents of a configuration, by source."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    @property
    def key(self) -> str:
        """Hash of all that determines which text lies on which side."""
        return self._pipeline.text_key

    @property
    def cache(self) -> Cache:
        """Where what is made of the text is kept."""
        return self._pipeline.cache

    def held_out(self, characters: int, documents: int) -> dict[str, list[str]]:
        """By domain: at most so many held-out documents, drawn by hash, and of their text as much
        from the beginning of each as makes at most `characters` in all."""
        return {
            source.name: _beginnings(stored, _first(stored, side.held_out, documents), characters)
            for source, stored, side in self._every()
            if side.held_out.size
        }

    def training(self, characters: int) -> Iterator[str]:
        """Training documents, filtered out or not: of more than about `characters` an equal share
        of every source, drawn by hash."""
        every = self._every()
        total = sum(int(stored.characters[side.training].sum()) for _, stored, side in every)
        share = min(1.0, characters / max(1, total))
        for _, stored, side in every:
            drawn = uniform(stored.hashes[side.training], 0, "texts") < share
            yield from stored.texts(side.training[drawn])

    def _every(self) -> list[tuple[Source, Documents, Sides]]:
        whole = self._pipeline
        return list(zip(whole.sources, whole.documents, whole.sides, strict=True))


def _first(stored: Documents, side: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """`count` documents of a side, by their hashes, in the order in which they were read."""
    order = np.argsort(uniform(stored.hashes[side], 0, "texts"), kind="stable")
    return np.sort(side[order[:count]])


def _beginnings(stored: Documents, chosen: NDArray[np.int64], characters: int) -> list[str]:
    """The documents, the longest cut to one length: the greatest that `characters` allow."""
    limit = _common_limit(stored.characters[chosen], characters)
    return [text[:limit] for text in stored.texts(chosen)]


def _common_limit(sizes: NDArray[np.int64], total: int) -> int:
    """The greatest limit with which the sizes, each at most the limit, sum to at most `total`."""
    left, ordered = total, np.sort(sizes)
    for index, size in enumerate(ordered):
        if size * (len(ordered) - index) > left:
            return int(left // (len(ordered) - index))
        left -= int(size)
    return int(ordered[-1]) if len(ordered) else 0
