"""The text of a configuration up to its pages: what is read, which documents are copies, which
side each is on, and how training documents are cut. No tokenizer and no filter bears on it.
"""

import json
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from operator import add
from pathlib import Path
from typing import Any

from glam.config import DataConfig, Role, Source
from glam.data import documents, reading
from glam.data import pages as paging
from glam.data import split as splitting
from glam.data.cache import Cache
from glam.data.dedup import VERSION as DEDUP_VERSION
from glam.data.dedup import Signed, write_copies
from glam.data.digests import digests_in
from glam.data.executor import Executor, StageTask, executor_of, run_stage
from glam.data.executor.pool import LocalExecutor
from glam.data.hashing import digest
from glam.data.index import Index, ShardEntry, read_index, say_what_was_read, write_index
from glam.data.pages import Pages
from glam.data.scan import VERSION as SCAN_VERSION
from glam.data.signatures import write_signatures
from glam.data.sources import checked_sources, trains_classifier
from glam.data.volume import ON_DISK, volume
from glam.errors import UserError

# Of copies the lowest stays.
_PRIORITY = {"held_out": 0, "curated": 1, "unfiltered": 1, "pool": 2}
_FEW_BYTES = 32_000_000  # of files: starting processes would take longer than reading them


class DividedText:
    """Every stage by name, made on first use and at most once."""

    def __init__(self, data: DataConfig, cache: Path) -> None:
        self.data = data
        self.sources = checked_sources(data)
        self.digests = digests_in(cache)
        self.units = documents.units_of(self.sources, self.digests)
        self.cache = Cache(cache, needs=100_000_000)
        copies = digest(self._copies_inputs)
        self._split_key = digest([splitting.VERSION, copies, data.held_out_fraction, data.seed])
        # All that determines the text of both sides and its pages.
        self.text_key = digest([self._split_key, paging.VERSION, data.page_characters])

    @property
    def filters(self) -> bool:
        return self.data.filter.name != "none" and any(s.role == "pool" for s in self.sources)

    @property
    def has_documents(self) -> bool:
        """Whether all of the text is in the cache, as it was read."""
        return all(self.cache.holds("documents", unit.inputs) for unit in self.units)

    # ---- what is read

    @property
    def _index_inputs(self) -> dict[str, Any]:
        return {
            "version": documents.VERSION,
            "units": [[unit.key, unit.number] for unit in self.units],
        }

    @cached_property
    def index(self) -> Index:
        """Every shard, with its domain and its size."""
        folder = self.cache.stage("index", self._index_inputs, self._write_index)
        return read_index(folder / "index.jsonl", self.sources)

    def _write_index(self, folder: Path) -> None:
        path = folder / "index.jsonl"
        units = [
            (unit.number, unit.key, read) for unit, read in zip(self.units, self._read, strict=True)
        ]
        write_index(path, units)
        say_what_was_read(path, self.sources)

    @cached_property
    def _read(self) -> list[Path]:
        """The folders of all units; those that the cache lacks, or that are damaged, are read."""
        self._check_space()
        tasks = [
            StageTask(
                inputs=unit.inputs,
                build=partial(reading.read_unit, source=unit.source),
                size=unit.size,
            )
            for unit in self.units
        ]
        return run_stage(self.executor, self.cache, "documents", tasks, "reading", "bytes")

    def _check_space(self) -> None:
        held = (self.cache.folder("documents", unit.inputs).exists() for unit in self.units)
        missing = [unit.source for unit, there in zip(self.units, held, strict=True) if not there]
        self.cache.check_space(int(ON_DISK * volume(missing).text))

    @cached_property
    def shards(self) -> list[Path]:
        """The folders of all shards, in order, as they were read."""
        return [self._read[shard.unit] / f"{shard.number:05d}" for shard in self.index.shards]

    # ---- which side a document is on

    @cached_property
    def copies(self) -> Path:
        """The folder of copies: `<shard>.npy` says which documents are one."""
        return self.cache.stage("copies", self._copies_inputs, self._write_copies)

    @property
    def _copies_inputs(self) -> dict[str, Any]:
        near = [*self._signature, self.data.dedup.threshold]
        return {
            "version": [DEDUP_VERSION, SCAN_VERSION],
            "units": [
                [unit.key, unit.number, unit.source.role, unit.source.component]
                for unit in self.units
            ],
            "near": near if self.data.removes_near_copies else None,
        }

    @property
    def _signature(self) -> list[int]:
        """What the signatures of documents follow from."""
        return [self.data.dedup.bands, self.data.dedup.rows, self.data.dedup.ngram]

    def _write_copies(self, folder: Path) -> None:
        bands: dict[int, Path] = {}
        if self.data.removes_near_copies:
            bands = {i: each / "bands.npy" for i, each in self._signatures.items()}
        signed = [
            Signed(path / "hashes.npy", bands.get(i), _PRIORITY[self._role(shard)])
            for i, (path, shard) in enumerate(zip(self.shards, self.index.shards, strict=True))
        ]
        write_copies(folder, signed, self.data.dedup)

    @property
    def _signatures(self) -> dict[int, Path]:
        return self._by_shard(
            "signatures",
            self._places,
            self._signatures_inputs,
            lambda place: partial(
                write_signatures, shard=self.shards[place], dedup=self.data.dedup
            ),
            "signing documents",
        )

    def _signatures_inputs(self, place: int) -> dict[str, Any]:
        return {"version": SCAN_VERSION, "shard": self._named(place), "of": self._signature}

    @cached_property
    def sides(self) -> Path:
        """The folder of sides: `<shard>.npy` says which one each document is on."""
        return self.cache.stage("sides", {"split": self._split_key}, self._write_sides)

    def _write_sides(self, folder: Path) -> None:
        divided = [
            splitting.Divided(path, self.copies / f"{place}.npy", shard.domain)
            for place, (path, shard) in enumerate(zip(self.shards, self.index.shards, strict=True))
        ]
        roles: list[Role] = [domain.role for domain in self.index.domains]
        splitting.write_sides(folder, divided, roles, self.data.held_out_fraction, self.data.seed)

    def _side(self, place: int) -> Path:
        return self.sides / f"{place}.npy"

    def side(self, place: int) -> splitting.Sides:
        """Which documents of a shard are on each side."""
        return splitting.Sides.read(self._side(place))

    @cached_property
    def counts(self) -> list[dict[str, list[int]]]:
        """Documents, characters and bytes of each step, by domain."""
        counts: list[dict[str, list[int]]] = json.loads((self.sides / "counts.json").read_text())
        found = {self.units[shard.unit].number for shard in self.index.shards}
        _check_sides(self.sources, found, counts)
        if self.filters and trains_classifier(self.data):
            _check_folds(self.index, counts, self.data.filter.folds)
        return counts

    # ---- pages

    @cached_property
    def pages(self) -> dict[int, Pages]:
        """The training text in pages, by shard."""
        _ = self.counts  # which refuses too little text
        limit = self.data.page_characters
        folders = self._by_shard(
            "pages",
            [i for i in self._places if self._role(self.index.shards[i]) != "held_out"],
            self._pages_inputs,
            lambda place: partial(
                paging.write_pages, shard=self.shards[place], sides=self._side(place), limit=limit
            ),
            "cutting pages",
        )
        return {i: Pages(folder, self.shards[i], limit) for i, folder in folders.items()}

    def _pages_inputs(self, place: int) -> dict[str, Any]:
        return {"version": paging.VERSION, "text": self.text_key, "shard": self._named(place)}

    @cached_property
    def funnel(self) -> list[dict[str, list[int]]]:
        """Documents, characters and bytes of each step before the filter, by domain."""
        folder = self.cache.stage("funnel", self._funnel_inputs, self._write_funnel)
        return json.loads((folder / "funnel.json").read_text())

    @property
    def _funnel_inputs(self) -> dict[str, Any]:
        return {"version": paging.VERSION, "text": self.text_key, **self._index_inputs}

    def _write_funnel(self, folder: Path) -> None:
        counts = [dict(steps) for steps in self.counts]
        for domain, steps in enumerate(counts):
            steps["pages"] = [0, 0, 0]
            for i in self.index.of_domain(domain):
                if i in self.pages:
                    steps["pages"] = list(map(add, steps["pages"], self.pages[i].counts))
        (folder / "funnel.json").write_text(json.dumps(counts))

    # ---- all of them

    @property
    def _places(self) -> range:
        return range(len(self.index.shards))

    def _named(self, place: int) -> list[Any]:
        return self.index.shards[place].inputs

    def _role(self, shard: ShardEntry) -> Role:
        return self.index.domains[shard.domain].role

    @cached_property
    def executor(self) -> Executor:
        if self.data.executor == "local" and sum(u.size for u in self.units) < _FEW_BYTES:
            return LocalExecutor(1)
        return executor_of(self.data, self.cache.root)

    def _by_shard(
        self,
        name: str,
        places: Sequence[int],
        inputs: Callable[[int], dict[str, Any]],
        build: Callable[[int], Callable[[Path], None]],
        label: str,
    ) -> dict[int, Path]:
        """The folders of a stage by shard. `build` is asked for nothing where all are there."""
        every = [inputs(place) for place in places]
        if all(self.cache.holds(name, each) for each in every):
            return {i: self.cache.folder(name, each) for i, each in zip(places, every, strict=True)}
        tasks = [
            StageTask(inputs=each, build=build(i), size=self.index.shards[i].characters)
            for i, each in zip(places, every, strict=True)
        ]
        folders = run_stage(self.executor, self.cache, name, tasks, label, "characters")
        return dict(zip(places, folders, strict=True))


Counts = list[dict[str, list[int]]]


def _check_sides(sources: Sequence[Source], found: set[int], counts: Counts) -> None:
    if not any(each["training"][0] for each in counts):
        if any(each["read"][0] for each in counts):
            raise UserError(
                "data.corpus has no text to train on: all of it is held out, or copies of what "
                "is; give more"
            )
        files = ", ".join(str(path) for source in sources for path in source.files[:1])
        raise UserError(f"data.corpus has no text to train on: none in {files}; name other files")
    if not any(each["held out"][0] for each in counts):
        raise UserError(
            "data.corpus has no domain with two documents that are no copies of each other, so "
            "none can be held out; split the text into several .txt files of a folder, or one "
            "document a line of .jsonl"
        )
    for number, source in enumerate(sources):
        if number not in found:
            files = ", ".join(str(path) for path in source.files[:3])
            raise UserError(f"data.corpus: {source.name} has no text ({files}); leave it out")


def _check_folds(index: Index, counts: Counts, folds: int) -> None:
    for role, key in (("curated", "curated"), ("pool", "files")):
        found = sum(
            steps["training"][0]
            for domain, steps in zip(index.domains, counts, strict=True)
            if domain.role == role
        )
        if found < folds:
            raise UserError(
                f"data.filter.folds={folds} needs as many documents to train on from "
                f"data.corpus.{key}, which leaves {found} beside held-out text and its copies; "
                f"give more (one a line of .jsonl, one a .txt), or data=unfiltered"
            )
