"""Units of reading: consecutive files of one source up to about 256 MB of text, or one larger file.

A unit is read once, into shards. It is named by its content: the bytes of its files and the reader,
not their paths. What cannot be made a document is set aside in `bad.jsonl` and counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from glam.config import Fetch, Source
from glam.data.digests import Digests, digests_in
from glam.data.formats import usual_expansion
from glam.data.hashing import digest
from glam.data.shards import SHARD_BYTES
from glam.errors import UserError

VERSION = 2  # of everything here, of shards, of the readers and of `clean`


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Files of one source that are read together."""

    source: Source  # of these files alone
    number: int  # of the source
    key: str
    size: int  # [bytes] of the files as they are stored

    @property
    def inputs(self) -> dict[str, Any]:
        """Of the stage that reads it."""
        return {"documents": self.key}


def units_of(sources: Sequence[Source], digests: Digests) -> list[Unit]:
    """What there is to read, in order. Raises UserError for a file that cannot be read."""
    return [
        _unit(number, _slice(source, first, last), digests)
        for number, source in enumerate(sources)
        for first, last in _grouped(source)
    ]


def _unit(number: int, source: Source, digests: Digests) -> Unit:
    size = sum(source.file_sizes())
    return Unit(source=source, number=number, key=unit_key(source, digests), size=size)


def unit_key(source: Source, digests: Digests) -> str:
    """Hash of a source's content: the bytes of its files and the reader, not their paths."""
    files = [
        [path.name, *content]
        for path, content in zip(source.files, _contents(source, digests), strict=True)
    ]
    return digest([VERSION, source.name, source.reader_name, files])


def text_fingerprint(sources: Sequence[Source], cache: Path | None = None) -> str:
    """Hash of the text of sources and of how it is read: equal wherever the files lie and whatever
    they are called, as long as their order and their domains are the same. Hashes of files are
    remembered in the folder `cache`."""
    digests = digests_in(cache)
    return digest(
        [
            [source.name, source.role, source.component, source.reader_name]
            + [list(content) for content in _contents(source, digests)]
            for source in sources
        ]
    )


def _contents(source: Source, digests: Digests) -> Iterator[tuple[int, str]]:
    """Bytes and hash of each file. Raises UserError where one cannot be read."""
    if source.content is not None:
        yield from zip(source.file_sizes(), source.content, strict=True)
        return
    for path in source.files:
        try:
            yield digests.of(path)
        except OSError as error:
            raise UserError(
                f"data.corpus: {path} cannot be read ({error.strerror}); make it readable, or "
                f"leave it out"
            ) from None


def _grouped(source: Source) -> Iterator[tuple[int, int]]:
    """The first file of each unit and the one after its last. What is fetched is fetched file by
    file."""
    first = size = 0
    for index, (path, stored) in enumerate(zip(source.files, source.file_sizes(), strict=True)):
        more = round(stored * usual_expansion(path.name))
        if index > first and (source.fetch is not None or size + more > SHARD_BYTES):
            yield first, index
            first, size = index, 0
        size += more
    yield first, len(source.files)


def _slice(source: Source, first: int, last: int) -> Source:
    return replace(
        source,
        files=tuple(source.files[first:last]),
        content=source.content and source.content[first:last],
        sizes=source.sizes and source.sizes[first:last],
        fetch=source.fetch and partial(_fetched, source.fetch, first),
    )


def _fetched(fetch: Fetch, first: int, index: int) -> Any:
    return fetch(first + index)
