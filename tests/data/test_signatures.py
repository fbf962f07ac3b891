"""The file of a shard's signatures."""

from pathlib import Path

import numpy as np
import pytest
from made_shards import shard_of, text_of

from glam.config import DedupConfig
from glam.data import signatures
from glam.data.scan import scan


def test_signatures_are_written_as_they_are_made_and_never_a_file_with_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map of a file that a full disk has no room for would end the process by SIGBUS."""
    texts = [text_of(str(number), formal=False) for number in range(40)]
    shard, dedup, sizes = shard_of(tmp_path / "shard", texts), DedupConfig(), list[int]()
    file = tmp_path / "bands.npy"
    monkeypatch.setattr(signatures, "advance", lambda _: sizes.append(file.stat().st_size))
    monkeypatch.setattr(type(shard), "batches", lambda *_: ([text] for text in texts))
    signatures.write_signatures(tmp_path, shard.folder, dedup)
    whole = 8 * dedup.bands * len(texts)
    assert max(sizes[: len(texts) // 2]) < whole < file.stat().st_size
    np.testing.assert_array_equal(np.load(file), scan(texts, dedup, None).bands)
