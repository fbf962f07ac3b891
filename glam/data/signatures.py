"""The signatures of a shard's documents, by which copies are found."""

from pathlib import Path

import numpy as np

from glam.config import DedupConfig
from glam.data.executor import advance
from glam.data.scan import scan
from glam.data.shards import Shard


def write_signatures(folder: Path, shard: Path, dedup: DedupConfig) -> None:
    """Write `bands.npy`, uint64 `[documents, bands]`, in the order in which they were read."""
    whole, done = Shard(shard), 0
    shape = len(whole.hashes), dedup.bands
    bands = np.lib.format.open_memmap(folder / "bands.npy", "w+", np.uint64, shape)
    for texts in whole.batches():
        bands[done : done + len(texts)] = scan(texts, dedup, None).bands
        done += len(texts)
        advance(sum(map(len, texts)))
    bands.flush()
