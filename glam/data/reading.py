"""Reading of a unit: its records are cleaned in batches and put into shards by their domain."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from glam.config import BadRecord, Record, Source
from glam.data.cleaned import Documents, cleaned
from glam.data.executor import advance
from glam.data.formats.bad import EMPTY
from glam.data.shards import ShardWriter
from glam.errors import UserError

_NAME = 80  # characters of a domain's name
_BATCH, _MOST_RECORDS = 1_000_000, 1 << 15  # characters and records that are cleaned together
_WAITING = 64_000_000  # bytes of text in memory, over all shards that are being written


def read_unit(folder: Path, source: Source) -> None:
    """Read the files of a unit into shards, which lie in `folder` by number. Empty documents are
    left out. `unit.json` tells the shards in order, and counts."""
    counts: dict[str, Any] = {"records": 0, "bad": Counter[str]()}
    shards = _Shards(folder, source)
    with (folder / "bad.jsonl").open("w", encoding="utf-8") as bad:
        for found in _records(source):
            if isinstance(found, BadRecord):
                counts["records"] += found.count
                counts["bad"][found.kind] += found.count
                if found.kind != EMPTY:
                    counts.setdefault("first_bad", found.place)
                _set_aside(found, bad)
                continue
            counts["records"] += 1
            shards.add(found)
    shards.close()
    counts["replaced"] = shards.replaced
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

    def __init__(self, folder: Path, source: Source) -> None:
        self._folder, self._name = folder, source.name
        self._left = sum(source.file_sizes())  # of the bar
        self._open: dict[str, tuple[int, ShardWriter]] = {}
        self._records: list[Record] = []  # that are not in a shard yet
        self._characters = 0  # of them
        self._added = 0  # characters since memory was looked at
        self.made: list[dict[str, Any]] = []
        self.replaced = Counter[str]()

    def add(self, record: Record) -> None:
        self._records.append(record)
        self._characters += len(record.text)
        if self._characters >= _BATCH or len(self._records) >= _MOST_RECORDS:
            self._add_all()

    def close(self) -> None:
        self._add_all()
        for domain in list(self._open):
            self._finish(domain)

    def _add_all(self) -> None:
        """Put the records into their shards, which are numbered as their first documents come."""
        documents, kept, replaced = cleaned([record.text for record in self._records])
        self.replaced.update(replaced)
        records: list[Record] = [self._records[index] for index in kept]
        scores = np.array([np.nan if each.score is None else each.score for each in records])
        left = [(int(places[0]), domain, places) for domain, places in self._divided(records)]
        heapify(left)
        while left:
            _, domain, places = heappop(left)
            part = documents if len(places) == len(documents) else documents.at(places)
            count = self._fill(domain, part, scores[places])
            if len(places) > count:
                heappush(left, (int(places[count]), domain, places[count:]))
        # Text and file differ in size (markup, compression): the bar may end early.
        advance(step := min(self._characters, self._left))
        self._left -= step
        self._records.clear()
        self._added += self._characters
        self._characters = 0
        if self._added > _WAITING // 4:
            self._limit_memory()

    def _divided(self, records: Sequence[Record]) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """The places of each domain's documents among `records`."""
        domains = {name: domain_name(name) for name in {each.domain for each in records} if name}
        names = [domains[each.domain] if each.domain else self._name for each in records]
        number = {name: index for index, name in enumerate(dict.fromkeys(names))}
        numbers = np.array([number[name] for name in names], np.int64)
        for name, index in number.items():
            yield name, np.flatnonzero(numbers == index)

    def _fill(self, domain: str, documents: Documents, scores: NDArray[np.float64]) -> int:
        """Put the first documents into the domain's shard, until it is full; how many."""
        if domain not in self._open:
            writer = ShardWriter(self._folder / f"{len(self.made):05d}")
            self._open[domain] = len(self.made), writer
            self.made.append({"domain": domain})
        _, writer = self._open[domain]
        count = min(len(documents), writer.room(documents))
        writer.add(documents.at(slice(count)), scores[:count])
        if writer.is_full:
            self._finish(domain)
        return count

    def _finish(self, domain: str) -> None:
        number, writer = self._open.pop(domain)
        writer.close()
        self.made[number] |= {
            "documents": writer.documents,
            "characters": writer.characters,
            "bytes": writer.bytes,
        }

    def _limit_memory(self) -> None:
        self._added = 0
        if sum(writer.waiting_bytes for _, writer in self._open.values()) > _WAITING:
            for _, writer in self._open.values():
                writer.flush()
