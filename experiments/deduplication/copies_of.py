"""Copies among texts in memory, found as the pipeline finds them."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glam.config import DedupConfig
from glam.data.dedup import Signed, write_copies
from glam.data.hashing import document_hash
from glam.data.scan import scan

PRIORITY = {"held_out": 0, "curated": 1, "unfiltered": 1, "pool": 2}
Texts = Mapping[str, tuple[str, Sequence[str]]]  # by source: its role, its documents


def copies_of(sources: Texts, dedup: DedupConfig) -> dict[str, NDArray[np.uint8]]:
    """By source what each document is: 0 no copy, 1 an equal document's, 2 a near one's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        signed: list[Signed] = []
        for source, (role, texts) in sources.items():
            hashes, bands = folder / f"{source}-hashes.npy", folder / f"{source}-bands.npy"
            np.save(hashes, np.array([document_hash(text) for text in texts], np.uint64))
            np.save(bands, scan(texts, dedup, None).bands)
            signed.append(Signed(hashes, bands, PRIORITY[role]))
        out = folder / "copies"
        out.mkdir()
        write_copies(out, signed, dedup)
        return {source: np.load(out / f"{index}.npy") for index, source in enumerate(sources)}
