"""Shards of a few documents, and their pages; and a corpus of several files a source."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glam.config import CorpusConfig, Role, Source
from glam.data import readers
from glam.data.cleaned import cleaned
from glam.data.pages import Pages, write_pages
from glam.data.shards import Shard, ShardWriter


def source(files: Sequence[Path], reader: Any = None, **changes: Any) -> Source:
    """Files of web-like text."""
    given = {"name": "web", "role": "pool", "component": "webpages", "reader_name": "r"}
    return Source(files=tuple(files), reader=reader, **{**given, **changes})


def files(tmp_path: Path, *sizes: int) -> list[Path]:
    """Files of so many bytes."""
    paths = [tmp_path / f"{number}.txt" for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        path.write_text("x" * size)
    return paths


def shard_of(folder: Path, texts: Sequence[str]) -> Shard:
    """A shard in the new `folder`."""
    writer = ShardWriter(folder)
    writer.add(cleaned(texts)[0])
    writer.close()
    return Shard(folder)


def pages_of(folder: Path, texts: Sequence[str], limit: int) -> Pages:
    """The pages of documents that are all trained on, below the new `folder`."""
    (folder / "pages").mkdir(parents=True)
    shard = shard_of(folder / "shard", texts)
    np.save(folder / "sides.npy", np.zeros(len(texts), np.uint8))
    write_pages(folder / "pages", shard.folder, folder / "sides.npy", limit)
    return Pages(folder / "pages", shard.folder, limit)


WORDS = {
    True: ["veratum", "conition", "proence", "exate"],
    False: ["lolz", "gr8yo", "omgxx", "u4"],
}
COMMON = [a + b for a in ("ka", "lo", "mi", "ne", "tu", "sa") for b in ("r", "n", "st", "l", "m")]


def text_of(seed: str, *, formal: bool) -> str:
    draws = random.Random(seed)
    kinds = (WORDS[formal], COMMON, COMMON)
    return " ".join(draws.choice(draws.choice(kinds)) for _ in range(draws.randint(10, 120)))


@dataclass(kw_only=True)
class TablesConfig(CorpusConfig):
    """Tables with a column `text` in a folder: web-*.csv to filter, good-*.csv to learn from."""

    name: str = "tables"
    folder: str = ""

    def build(self) -> list[Source]:
        named: list[tuple[str, Role, str]] = [
            ("good", "curated", "books"),
            ("web", "pool", "webpages"),
        ]
        return [
            Source(
                name=name,
                role=role,
                component=component,
                files=tuple(sorted(Path(self.folder).glob(f"{name}-*.csv"))),
                reader=readers.tweets,
                reader_name="tables",
            )
            for name, role, component in named
        ]


def corpus_of(folder: Path) -> TablesConfig:
    return TablesConfig(folder=str(folder))
