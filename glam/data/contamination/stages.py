"""Overlap as stages of the data cache: n-grams of the items, hits of each part of the training
text, and what they say together.

    items -> n-grams --hits(part)--> n-grams by document --overlap(merge)--> items
                                                         --removed(part)--> pages left out

A part is scanned apart from all others, and hits are merged as sums, so that neither their order
nor the number of workers matters.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.data import scan as scanning
from glam.data.contamination.hits import Hits, contamination_hits
from glam.data.contamination.items import EvaluationItem, EvaluationItems
from glam.data.contamination.ngrams import ItemNgrams, item_ngrams
from glam.data.contamination.overlap import Overlap, overlap_of
from glam.data.contamination.removal import dirty_pages
from glam.data.executor import StageTask, advance, run_stage
from glam.data.scan import NgramTable
from glam.data.text import pages
from glam.data.texts import Texts, TrainingPart
from glam.progress import stage

VERSION = 1  # of all that decides what overlaps
HELD_OUT = "held_out"  # the suite of the held-out documents, a task for each domain
HELD_OUT_DOCUMENTS, HELD_OUT_CHARACTERS = 2_000, 500_000  # of a domain, that are looked for


def held_out_items(texts: Texts) -> EvaluationItems:
    """The held-out documents of every domain; of many, some, and of long ones the beginning."""

    def load() -> Iterator[EvaluationItem]:
        found = texts.held_out(HELD_OUT_CHARACTERS, HELD_OUT_DOCUMENTS)
        for domain, documents in found.items():
            for number, text in enumerate(documents):
                yield EvaluationItem(domain, number, (text,))

    key = [texts.key, HELD_OUT_DOCUMENTS, HELD_OUT_CHARACTERS]
    return EvaluationItems(HELD_OUT, key, load)


def overlap(texts: Texts, sets: Sequence[EvaluationItems]) -> Overlap:
    """The overlap of the training text with all items of `sets`, from the cache where it is there.
    Raises UserError where it cannot be kept."""
    return Overlap.read(_Stages(texts, sets).overlap())


def overlapping(texts: Texts, sets: Sequence[EvaluationItems]) -> dict[int, Path]:
    """By shard, the folder that says what of it overlaps with items, common phrases apart:
    `units.npy`, bool `[pages]` of the pool, else `[documents]`, and `counts.json`, units,
    characters and bytes of those that do not."""
    return _Stages(texts, sets).removed()


class _Stages:
    """The stages for one training text and some sets of items."""

    def __init__(self, texts: Texts, sets: Sequence[EvaluationItems]) -> None:
        self.texts, self.sets = texts, sets
        every = [[one.suite, one.key] for one in sets]
        self.inputs: dict[str, Any] = {"version": [VERSION, scanning.VERSION], "sets": every}

    @property
    def _of_text(self) -> dict[str, Any]:
        return {**self.inputs, "text": self.texts.key, "left_out": self.texts.left_out}

    def overlap(self) -> Path:
        """The folder of an `Overlap`."""
        return self.texts.cache.stage("overlap", self._of_text, self._merge)

    def _merge(self, folder: Path) -> None:
        hits = map(Hits.read, self._hits())
        overlap_of(ItemNgrams.read(self._ngrams()), hits).save(folder)

    def _ngrams(self) -> Path:
        def build(folder: Path) -> None:
            with stage("n-grams of evaluation sets"):
                item_ngrams(self.sets).save(folder)

        return self.texts.cache.stage("ngrams", self.inputs, build)

    def _hits(self) -> list[Path]:
        ngrams = self._ngrams()
        return self._by_part(
            "hits", {}, lambda part, _: partial(write_hits, part=part, ngrams=ngrams), "overlap"
        )

    def removed(self) -> dict[int, Path]:
        hits, ngrams, found = self._hits(), self._ngrams(), self.overlap()

        def build(part: TrainingPart, number: int) -> Callable[[Path], None]:
            return partial(
                write_removed, part=part, hits=hits[number], ngrams=ngrams, overlap=found
            )

        inputs = {"left_out": self.texts.left_out}
        folders = self._by_part("removed", inputs, build, "removing overlap")
        places = [part.place for part in self.texts.parts()]
        return dict(zip(places, folders, strict=True))

    def _by_part(
        self,
        name: str,
        inputs: dict[str, Any],
        build: Callable[[TrainingPart, int], Callable[[Path], None]],
        label: str,
    ) -> list[Path]:
        """The folders of a stage, one for each part of the text."""
        tasks = [
            StageTask(
                inputs={**self.inputs, "text": self.texts.key, "part": part.key, **inputs},
                build=build(part, number),
                size=part.characters,
            )
            for number, part in enumerate(self.texts.parts())
        ]
        texts = self.texts
        return run_stage(texts.executor, texts.cache, name, tasks, label, "characters")


def write_hits(folder: Path, part: TrainingPart, ngrams: Path) -> None:
    """The n-grams of items in each document of a part."""
    contamination_hits(part.texts(), ItemNgrams.read(ngrams).table).save(folder)


def write_removed(
    folder: Path, part: TrainingPart, hits: Path, ngrams: Path, overlap: Path
) -> None:
    """Which pages of a part, or which documents where training sees them whole, have an n-gram that
    is no common phrase."""
    found, every = Hits.read(hits), ItemNgrams.read(ngrams).table
    rare = Overlap.read(overlap).rare_ngrams
    documents = set(found.documents[rare[found.places]].tolist())
    table = NgramTable.of(every.sizes, every.keys[rare])
    marks: list[NDArray[np.bool_]] = [np.zeros(0, bool)]
    left = np.zeros(3, np.int64)
    for number, text in enumerate(part.texts()):
        units = [text] if part.limit is None else list(pages(text, part.limit))
        is_dirty = number in documents
        dirty = dirty_pages(units, table) if is_dirty else np.zeros(len(units), bool)
        sizes = [(1, len(unit), len(unit.encode())) for unit in compress(units, ~dirty)]
        left += np.sum(sizes, axis=0, dtype=np.int64) if sizes else 0
        marks.append(dirty)
        advance(len(text))
    np.save(folder / "units.npy", np.concatenate(marks))
    (folder / "counts.json").write_text(json.dumps(left.tolist()))
