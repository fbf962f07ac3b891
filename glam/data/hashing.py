"""Hashes that name content, and the deterministic draws made from them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

_CHUNK = 1 << 20
_WHOLE = 1024 * _CHUNK  # files up to this size are hashed in full even when only sampled


def digest(value: Any) -> str:
    """Hash of any JSON value: 16 hexadecimal characters."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_64_hexdigest(canonical.encode())


def file_digest(path: Path, sampled: bool = False) -> str:
    """Hash of a file's bytes; `sampled` reads 64 evenly spaced MiB of a large one, which is
    enough to notice damage but not an edit."""
    state = xxhash.xxh3_128()
    with path.open("rb") as file:
        size = path.stat().st_size
        if sampled and size > _WHOLE:
            for start in np.linspace(0, size - _CHUNK, 64).astype(int).tolist():
                file.seek(start)
                state.update(file.read(_CHUNK))
        else:
            while block := file.read(_CHUNK):
                state.update(block)
    return state.hexdigest()


def text_hash(text: str) -> int:
    """The 64-bit xxh3 hash of the text as it is."""
    return xxhash.xxh3_64_intdigest(text.encode())


def document_hash(text: str) -> int:
    """Equal for documents that differ in case and white space alone: they are one document."""
    return text_hash(" ".join(text.casefold().split()))


def uniform(hashes: NDArray[np.uint64], seed: int, purpose: str) -> NDArray[np.float64]:
    """A uniform draw from [0, 1) for each hash. Draws of different purposes are independent, and
    none depends on the order of the hashes (splitmix64's finaliser over the salted hash)."""
    z = hashes ^ np.uint64(xxhash.xxh3_64_intdigest(f"{purpose}/{seed}".encode()))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
