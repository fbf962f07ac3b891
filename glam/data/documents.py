"""Units of reading: consecutive files of one source up to about 256 MB of text, or one larger file.

A unit is read once, into shards. It is named by its content: the bytes of its files and the reader,
not their paths. What cannot be made a document is set aside in `bad.jsonl` and counted.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from glam.config import BadRecord, Fetch, Record, Source
from glam.data.digests import Digests, digests_in
from glam.data.executor import advance
from glam.data.hashing import digest
from glam.data.shards import SHARD_BYTES, ShardWriter
from glam.data.text import clean, reserved_in
from glam.errors import UserError

VERSION = 2  # of everything here, of shards, of the readers and of `clean`
_UNPACKED = {".gz": 4, ".zst": 4, ".bz2": 4, ".parquet": 3}  # times as large as they are stored
_NAME = 80  # characters of a domain's name
_WAITING = 64_000_000  # bytes of text in memory, over all shards that are being written


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


def unpacked_bytes(unit: Unit) -> int:
    """About how many bytes of text a unit has: its files may be compressed."""
    if unit.source.expansion is not None:
        return round(unit.source.expansion * unit.size)
    sizes = zip(unit.source.files, unit.source.file_sizes(), strict=True)
    return sum(size * _UNPACKED.get(path.suffix, 1) for path, size in sizes)


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
    for index, more in enumerate(source.file_sizes()):
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


def read_unit(folder: Path, source: Source) -> None:
    """Read the files of a unit into shards, which lie in `folder` by number. Empty documents are
    left out. `unit.json` tells the shards in order, and counts."""
    counts: dict[str, Any] = {"records": 0, "bad": Counter[str](), "replaced": Counter[str]()}
    shards, left = _Shards(folder), sum(source.file_sizes())
    with (folder / "bad.jsonl").open("w", encoding="utf-8") as bad:
        for found in _records(source):
            if isinstance(found, BadRecord):
                counts["records"] += found.count
                counts["bad"][found.kind] += found.count
                counts.setdefault("first_bad", found.place)
                _set_aside(found, bad)
                continue
            counts["records"] += 1
            counts["replaced"].update(reserved_in(found.text))
            if text := clean(found.text):
                domain = source.name if found.domain is None else domain_name(found.domain)
                shards.add(domain, text, found.score)
            # Text and file differ in size (markup, compression): the bar may end early.
            advance(step := min(len(found.text), left))
            left -= step
    shards.close()
    (folder / "unit.json").write_text(json.dumps({"shards": shards.made, **counts}))


def _records(source: Source) -> Iterator[Record | BadRecord]:
    """What the source's reader gives. Raises UserError where a file cannot be read after all."""
    try:
        with ExitStack() as here:
            paths = here.enter_context(source.here(range(len(source.files))))
            for found in source.reader(paths):
                yield Record(found) if isinstance(found, str) else found
    except OSError as error:
        raise UserError(
            f"data.corpus: {error.filename or source.name} cannot be read ({error.strerror}); "
            f"leave it out"
        ) from None


def domain_name(words: str) -> str:
    """A domain's name for tables and columns."""
    return re.sub(r"[^\w.-]+", "_", words)[:_NAME] or "text"


def _set_aside(record: BadRecord, file: IO[str]) -> None:
    said = {
        "place": record.place,
        "kind": record.kind,
        "content": record.content.decode(errors="backslashreplace"),
    }
    file.write(json.dumps(said, ensure_ascii=False) + "\n")


class _Shards:
    """The shards of a unit, one at a time of each domain."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, tuple[int, ShardWriter]] = {}
        self._added = 0  # characters since memory was looked at
        self.made: list[dict[str, Any]] = []

    def add(self, domain: str, text: str, score: float | None) -> None:
        if domain not in self._open:
            writer = ShardWriter(self._folder / f"{len(self.made):05d}")
            self._open[domain] = len(self.made), writer
            self.made.append({"domain": domain})
        _, writer = self._open[domain]
        writer.add(text, score)
        if writer.is_full:
            self._finish(domain)
        self._added += len(text)
        if self._added > _WAITING // 4:
            self._limit_memory()

    def close(self) -> None:
        for domain in list(self._open):
            self._finish(domain)

    def _finish(self, domain: str) -> None:
        number, writer = self._open.pop(domain)
        writer.close()
        self.made[number] |= {
            "documents": writer.documents,
            "characters": writer.all_characters,
            "bytes": writer.bytes,
        }

    def _limit_memory(self) -> None:
        self._added = 0
        if sum(writer.waiting_bytes for _, writer in self._open.values()) > _WAITING:
            for _, writer in self._open.values():
                writer.flush()
