"""Encoded text of one source, memory-mapped: tokens end to end, and where each document begins.

A document is stored as [bos, t1 … tn]. Training text of the pool is stored page by page, each
page a document of its own, with its hash; the filter is then a choice among pages.
"""

import shutil
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.data.executor import advance, threads
from glam.data.hashing import text_hash
from glam.data.text import batches
from glam.data.tokenizer import Tokenizer

VERSION = 1
_BATCH = 2_000_000  # characters encoded at once
_AT_ONCE = 500_000  # tokens looked at
Tokens = NDArray[np.unsignedinteger]


@dataclass(frozen=True, eq=False)
class Encoded:
    """`tokens [slots]`, `offsets [documents + 1]`, `hashes [documents]`,
    `characters [documents]`."""

    tokens: Tokens
    offsets: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    characters: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def document(self, index: int) -> Tokens:
        """Tokens of one document, its bos first."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def batches(self, kept: NDArray[np.bool_]) -> Iterator[Tokens]:
        """Tokens of the documents that are `kept` `[documents]`, about a megabyte at a time."""
        starts = np.arange(0, len(self.tokens), _AT_ONCE)
        cuts = [*np.searchsorted(self.offsets[:-1], starts).tolist(), len(self)]
        for first, last in pairwise(cuts):
            offsets = self.offsets[first : last + 1]
            tokens = self.tokens[offsets[0] : offsets[-1]]
            yield tokens[np.repeat(kept[first:last], np.diff(offsets))]


def write_encoded(folder: Path, texts: Iterable[str], tokenizer: Tokenizer) -> None:
    """Encode documents into `folder`, in constant memory but for 24 bytes a document."""
    folder.mkdir()
    lengths, hashes, characters = array("q", [0]), array("Q"), array("q")
    with (folder / "tokens.bin").open("wb") as file:
        for batch in batches(texts, _BATCH):
            tokens, counts = tokenizer.encode_batch(batch, threads())
            tokens.tofile(file)
            lengths.extend(counts.tolist())
            hashes.extend(map(text_hash, batch))
            characters.extend(map(len, batch))
            advance(sum(map(len, batch)))
    np.save(folder / "offsets.npy", np.cumsum(lengths, dtype=np.int64))
    np.save(folder / "hashes.npy", np.array(hashes, np.uint64))
    np.save(folder / "characters.npy", np.array(characters, np.int64))


def read_encoded(folder: Path, tokenizer: Tokenizer) -> Encoded:
    """The encoded text of one source, its tokens memory-mapped."""
    path = folder / "tokens.bin"
    empty = path.stat().st_size == 0  # which cannot be mapped
    dtype = tokenizer.dtype
    tokens = np.zeros(0, dtype) if empty else _mapped(path, dtype)
    parts = (mapped_array(folder / f"{name}.npy") for name in ("offsets", "hashes", "characters"))
    return Encoded(tokens, *parts)


def join_encoded(folder: Path, parts: Sequence[Path]) -> None:
    """Write the documents of several folders of encoded text, one after the other, into one."""
    with (folder / "tokens.bin").open("wb") as file:
        for part in parts:
            with (part / "tokens.bin").open("rb") as tokens:
                shutil.copyfileobj(tokens, file, 1 << 20)
    lengths = [np.diff(np.load(part / "offsets.npy")) for part in parts]
    np.save(folder / "offsets.npy", np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths])))
    for name in ("hashes", "characters"):
        arrays = [np.load(part / f"{name}.npy") for part in parts]
        np.save(folder / f"{name}.npy", np.concatenate(arrays))


def mapped_array(path: Path) -> NDArray[Any]:
    """What `np.save` wrote of one dimension, memory-mapped."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        _, _, dtype = np.lib.format.read_array_header_1_0(file)
        begin = file.tell()
    if path.stat().st_size == begin:
        return np.zeros(0, dtype)
    return _mapped(path, dtype, begin)


def _mapped(path: Path, dtype: Any, begin: int = 0) -> NDArray[Any]:
    """A file's numbers, memory-mapped without a descriptor that stays open: Python's own map holds
    one, and a corpus may have hundreds of domains."""
    import pyarrow  # pyright: ignore[reportMissingTypeStubs]

    library: Any = pyarrow
    with library.memory_map(str(path)) as file:
        return np.frombuffer(file.read_buffer(), dtype, offset=begin)
