"""The text itself on its two sides, as words that a person reads: whatever the filter keeps of it,
and before a tokenizer cuts it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.data.cache import Cache
from glam.data.executor import Executor
from glam.data.hashing import uniform
from glam.data.pipeline import Pipeline
from glam.data.shards import Shard
from glam.data.split import Sides


@dataclass(frozen=True, kw_only=True)
class TrainingPart:
    """The training documents of a shard."""

    place: int  # of the shard, among all
    domain: str
    key: list[Any]  # what names it
    limit: int | None  # characters of a page where training sees pages; None: whole documents
    characters: int  # of the shard
    shard: Path
    sides: Path

    def texts(self) -> Iterator[str]:
        """The documents in the order in which they were read."""
        return Shard(self.shard).texts(Sides.read(self.sides).training)


class Texts:
    """Held-out and training documents of a configuration, by source."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    @property
    def key(self) -> str:
        """Hash of all that determines which text lies on which side."""
        return self._pipeline.text_key

    @property
    def cache(self) -> Cache:
        """Where what is made of the text is kept."""
        return self._pipeline.cache

    def held_out(self, characters: int, documents: int) -> dict[str, list[str]]:
        """By domain: at most so many held-out documents, drawn by hash, and of their text as much
        from the beginning of each as makes at most `characters` in all."""
        found: dict[str, list[str]] = {}
        for number, domain in enumerate(self._pipeline.index.domains):
            chosen = _first(self._shards(number, "held_out"), documents)
            sizes = [shard.characters[its] for shard, its, _ in chosen]
            if sizes and (limit := _common_limit(np.concatenate(sizes), characters)):
                found[domain.name] = [
                    text[:limit] for shard, its, _ in chosen for text in shard.texts(its)
                ]
        return found

    def held_out_numbers(self, documents: int) -> dict[str, NDArray[np.int64]]:
        """The documents of `held_out` by their numbers among all the held-out ones of a domain."""
        return {
            domain.name: np.concatenate([numbers for _, _, numbers in chosen])
            for number, domain in enumerate(self._pipeline.index.domains)
            if (chosen := _first(self._shards(number, "held_out"), documents))
        }

    def training(self, characters: int) -> Iterator[str]:
        """Training documents, filtered out or not: of more than about `characters` an equal share
        of every domain, drawn by hash."""
        total = sum(steps["training"][1] for steps in self._pipeline.counts)
        share = min(1.0, characters / max(1, total))
        for number in range(len(self._pipeline.index.domains)):
            for shard, side in self._shards(number, "training"):
                yield from shard.texts(side[uniform(shard.hashes[side], 0, "texts") < share])

    def parts(self) -> list[TrainingPart]:
        """All training documents, filtered out or not, but those of domains that are left out."""
        whole = self._pipeline
        _ = whole.counts  # which refuses too little text
        domains = [
            None if domain.name in self.left_out or domain.role == "held_out" else domain
            for domain in whole.index.domains
        ]
        return [
            TrainingPart(
                place=place,
                domain=domain.name,
                key=shard.inputs,
                limit=whole.data.page_characters if domain.role == "pool" else None,
                characters=shard.characters,
                shard=whole.shards[place],
                sides=whole.sides / f"{place}.npy",
            )
            for place, shard in enumerate(whole.index.shards)
            if (domain := domains[shard.domain]) is not None
        ]

    @property
    def left_out(self) -> list[str]:
        """Domains that nothing is trained on, in alphabetical order."""
        return sorted(self._pipeline.data.left_out)

    @property
    def executor(self) -> Executor:
        """Who works on parts of the text."""
        return self._pipeline.executor

    def _shards(self, domain: int, side: str) -> Iterator[tuple[Shard, NDArray[np.int64]]]:
        """The shards of a domain, and which of their documents are on a side."""
        whole = self._pipeline
        for place in whole.index.of_domain(domain):
            yield Shard(whole.shards[place]), getattr(whole.side(place), side)


def _first(
    shards: Iterable[tuple[Shard, NDArray[np.int64]]], count: int
) -> list[tuple[Shard, NDArray[np.int64], NDArray[np.int64]]]:
    """`count` documents of a side, by their hashes, in the order in which they were read: of each
    shard their places in it, and their numbers among all of the side."""
    found: list[tuple[Shard, NDArray[np.int64]]] = []
    draws, numbers, first_numbers = np.zeros(0), np.zeros(0, np.int64), [0]
    for shard, side in shards:
        found.append((shard, side))
        draws = np.concatenate([draws, uniform(shard.hashes[side], 0, "texts")])
        numbers = np.concatenate([numbers, first_numbers[-1] + np.arange(len(side))])
        first_numbers.append(first_numbers[-1] + len(side))
        first = np.argsort(draws, kind="stable")[:count]
        draws, numbers = draws[first], numbers[first]
    numbers = np.sort(numbers)
    cuts = np.searchsorted(numbers, first_numbers)
    return [
        (shard, side[mine - before], mine)
        for (shard, side), before, first, last in zip(
            found, first_numbers, cuts, cuts[1:], strict=False
        )
        if len(mine := numbers[first:last])
    ]


def _common_limit(sizes: NDArray[np.int64], total: int) -> int:
    """The greatest limit with which the sizes, each at most the limit, sum to at most `total`."""
    left, ordered = total, np.sort(sizes)
    for index, size in enumerate(ordered):
        if size * (len(ordered) - index) > left:
            return int(left // (len(ordered) - index))
        left -= int(size)
    return int(ordered[-1]) if len(ordered) else 0
