"""Which training documents have which n-grams of evaluation items: one pass over the text."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.data.executor import advance
from glam.data.scan import NgramTable, scan
from glam.data.text import batches

_BATCH = 2_000_000  # characters scanned at once


class Hits(NamedTuple):
    """Documents and the n-grams in them, each pair once `[hits]`: the number of a document in the
    order of its text, and the place of an n-gram in the table."""

    documents: NDArray[np.int64]
    places: NDArray[np.int64]

    def save(self, folder: Path) -> None:
        """Write both into `folder`."""
        np.save(folder / "documents.npy", self.documents)
        np.save(folder / "places.npy", self.places)

    @classmethod
    def read(cls, folder: Path) -> "Hits":
        """What `save` wrote."""
        return cls(np.load(folder / "documents.npy"), np.load(folder / "places.npy"))


def contamination_hits(texts: Iterable[str], table: NgramTable) -> Hits:
    """The n-grams of `table` in documents, in memory that is constant but for what is found."""
    documents: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    places: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    first = 0
    for batch in batches(texts, _BATCH):
        found = scan(batch, None, table)
        documents.append(found.hit_documents + first)
        places.append(np.searchsorted(table.keys, found.hit_keys))
        first += len(batch)
        advance(sum(map(len, batch)))
    return Hits(np.concatenate(documents), np.concatenate(places))
