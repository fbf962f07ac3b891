"""Shards: documents of one domain on disk, at most about 256 MB of text each.

    text.parquet    the documents in the order in which they were read
    hashes.npy      uint64 [documents], a hash that names each
    characters.npy  int64 [documents]
    num_bytes.npy   int64 [documents], of UTF-8
    scores.npy      float64 [documents], where their source published quality scores

Whoever works on a shard reads its text a row group at a time.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.data.cleaned import Documents, arrow

SHARD_BYTES = 256_000_000  # of text, a last document aside
SHARD_DOCUMENTS = 1 << 21
_GROUP_BYTES = 4_000_000  # of text in memory at once
_LEVEL = 1  # of zstandard: higher ones take longer and save little


class Shard:
    """A finished shard, in the folder where it lies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        return np.load(self.folder / "hashes.npy")

    @cached_property
    def characters(self) -> NDArray[np.int64]:
        return np.load(self.folder / "characters.npy")

    @cached_property
    def num_bytes(self) -> NDArray[np.int64]:
        return np.load(self.folder / "num_bytes.npy")

    @cached_property
    def scores(self) -> NDArray[np.float64] | None:
        """Published quality scores of its documents; None where there are none."""
        path = self.folder / "scores.npy"
        return np.load(path) if path.exists() else None

    def texts(self, indices: NDArray[np.integer] | None = None) -> Iterator[str]:
        """The text of the documents with these ascending `indices`, or of all."""
        for texts in self.batches(indices):
            yield from texts

    def batches(self, indices: NDArray[np.integer] | None = None) -> Iterator[list[str]]:
        """As `texts`, a few megabytes at a time."""
        first = 0
        with _parquet().ParquetFile(self.folder / "text.parquet", memory_map=True) as file:
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                chosen = None if indices is None else _within(indices, first, count)
                first += count
                if chosen is None or len(chosen):
                    # Rows that are decompressed go back to the system at once.
                    rows = file.read_row_group(group, use_threads=False).column(0)
                    whole = chosen is None or len(chosen) == count
                    yield (rows if whole else rows.take(chosen)).to_pylist()


class ShardWriter:
    """Writes a shard batch by batch, into a folder that it makes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._schema = arrow().schema([("text", arrow().large_string())])
        self._file = _parquet().ParquetWriter(
            folder / "text.parquet",
            self._schema,
            compression="zstd",
            compression_level=_LEVEL,
            use_dictionary=False,
            write_statistics=False,
        )
        self._waiting: list[Any] = []  # arrays of text
        self.documents = self.characters = self.bytes = self.waiting_bytes = 0
        self._hashes = [np.empty(0, np.uint64)]
        self._characters, self._bytes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        self._scores = [np.empty(0)]

    @property
    def is_full(self) -> bool:
        return self.bytes >= SHARD_BYTES or self.documents >= SHARD_DOCUMENTS

    def room(self, documents: Documents) -> int:
        """How many of these, the first ones, are in the shard when it is full."""
        sizes = self.bytes + np.cumsum(documents.num_bytes)
        return min(int(np.searchsorted(sizes, SHARD_BYTES)) + 1, SHARD_DOCUMENTS - self.documents)

    def add(self, documents: Documents, scores: NDArray[np.float64] | None = None) -> None:
        """Documents behind those that are in the shard; of some a quality score (else NaN)."""
        size = int(documents.num_bytes.sum())
        self._waiting.append(documents.texts)
        self._hashes.append(documents.hashes)
        self._characters.append(documents.characters)
        self._bytes.append(documents.num_bytes)
        self._scores.append(np.full(len(documents), np.nan) if scores is None else scores)
        self.documents += len(documents)
        self.waiting_bytes += size
        self.bytes += size
        self.characters += int(documents.characters.sum())
        if self.waiting_bytes >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory."""
        if self._waiting:
            column = arrow().chunked_array(self._waiting)
            self._file.write_table(arrow().table([column], schema=self._schema))
            self._waiting.clear()
            self.waiting_bytes = 0

    def close(self) -> None:
        self.flush()
        self._file.close()
        np.save(self._folder / "hashes.npy", np.concatenate(self._hashes))
        np.save(self._folder / "characters.npy", np.concatenate(self._characters))
        np.save(self._folder / "num_bytes.npy", np.concatenate(self._bytes))
        scores = np.concatenate(self._scores)
        if not np.isnan(scores).all():
            np.save(self._folder / "scores.npy", scores)


def _within(indices: NDArray[np.integer], first: int, count: int) -> NDArray[np.integer]:
    """Those of ascending indices that are among `count` from `first` on, counted from there."""
    start, stop = np.searchsorted(indices, [first, first + count])
    return indices[start:stop] - first


def _parquet() -> Any:
    """Imported late, as `arrow`."""
    from pyarrow import parquet  # pyright: ignore[reportMissingTypeStubs]

    return parquet
