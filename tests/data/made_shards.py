"""Shards of a few documents, and their pages."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glam.data.pages import Pages, write_pages
from glam.data.shards import Shard, ShardWriter


def shard_of(folder: Path, texts: Sequence[str]) -> Shard:
    """A shard in the new `folder`."""
    writer = ShardWriter(folder)
    for text in texts:
        writer.add(text, None)
    writer.close()
    return Shard(folder)


def pages_of(folder: Path, texts: Sequence[str], limit: int) -> Pages:
    """The pages of documents that are all trained on, below the new `folder`."""
    (folder / "pages").mkdir(parents=True)
    shard = shard_of(folder / "shard", texts)
    np.save(folder / "sides.npy", np.zeros(len(texts), np.uint8))
    write_pages(folder / "pages", shard.folder, folder / "sides.npy", limit)
    return Pages(folder / "pages", shard.folder, limit)
