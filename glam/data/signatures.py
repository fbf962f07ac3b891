"""The signatures of a shard's documents, by which copies are found."""

from pathlib import Path

import numpy as np

from glam.config import DedupConfig
from glam.data.executor import advance
from glam.data.scan import scan
from glam.data.shards import Shard


def write_signatures(folder: Path, shard: Path, dedup: DedupConfig) -> None:
    """Write `bands.npy`, uint64 `[documents, bands]`, in the order in which they were read."""
    whole = Shard(shard)
    header = {"descr": "<u8", "fortran_order": False, "shape": (len(whole.hashes), dedup.bands)}
    # Written, not mapped: of a map that a full disk has no room for, the process dies.
    with (folder / "bands.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for texts in whole.batches():
            file.write(scan(texts, dedup, None).bands.astype("<u8", copy=False).tobytes())
            advance(sum(map(len, texts)))
