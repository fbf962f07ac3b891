"""How much text there is, told beforehand by the sizes of files and not by reading them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glam.config import Source
from glam.data.formats import unpacked_bytes

ON_DISK = 1.5  # bytes that are written for each byte of text, at most: experiments/preparation
_SAMPLED = 16  # files of a source and suffix that are opened


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Of all sources."""

    files: int
    stored: int  # [bytes] of the files
    text: int  # [bytes] of what is in them, about
    fetched: int  # [bytes] of those that lie elsewhere
    largest: int  # [bytes] of the largest of these


def volume(sources: Sequence[Source]) -> Volume:
    """Raises OSError for a file that cannot be read."""
    sizes = [source.file_sizes() for source in sources]
    fetched = [
        each for each, source in zip(sizes, sources, strict=True) if source.fetch is not None
    ]
    return Volume(
        files=sum(map(len, sizes)),
        stored=sum(map(sum, sizes)),
        text=round(sum(map(_text, sources, sizes))),
        fetched=sum(map(sum, fetched)),
        largest=max((max(each, default=0) for each in fetched), default=0),
    )


def _text(source: Source, sizes: Sequence[int]) -> float:
    """Of compressed files a few are looked into, from everywhere among them."""
    if source.expansion is not None:
        return source.expansion * sum(sizes)
    by_suffix: dict[str, list[tuple[Path, int]]] = {}
    for path, size in zip(source.files, sizes, strict=True):
        by_suffix.setdefault(path.suffix, []).append((path, size))
    return sum(map(_of_alike, by_suffix.values()))


def _of_alike(files: Sequence[tuple[Path, int]]) -> float:
    step = max(1, len(files) // _SAMPLED)
    sample = files[::step][:_SAMPLED]
    looked_into = sum(size for _, size in sample)
    unpacked = sum(unpacked_bytes(path) for path, _ in sample)
    return sum(size for _, size in files) * unpacked / max(1, looked_into)
