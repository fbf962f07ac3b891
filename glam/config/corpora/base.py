"""What a corpus is: a list of sources. And the registry of corpora."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glam.config.registry import Registry

Role = Literal["held_out", "curated", "pool"]
Reader = Callable[[Sequence[Path]], Iterator[str]]  # files -> documents


@dataclass(frozen=True, kw_only=True)
class Source:
    """Text of one kind: a domain of evaluation and, unless held out, a part of a component."""

    name: str  # of the domain, in tables and columns
    role: Role  # curated text teaches the quality filter, which picks from the pool
    component: str  # of the paper's mixture, one of COMPONENTS
    files: tuple[Path, ...]  # their contents are part of the cache keys
    reader: Reader
    reader_name: str  # part of the cache keys: what the reader is, with its parameters


@dataclass(kw_only=True)
class CorpusConfig:
    """Keys of a corpus (`data.corpus.…`), and its sources."""

    name: str  # which corpus: a file of conf/data/corpus

    def build(self) -> list[Source]:
        """The sources, in an order that does not depend on how the keys list them. Raises
        UserError for text that is absent."""
        raise NotImplementedError(f"{type(self).__name__} has no build()")


CORPORA: Registry[CorpusConfig] = Registry("data/corpus")
