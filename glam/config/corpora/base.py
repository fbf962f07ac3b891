"""What a corpus is: a list of sources. And the registry of corpora."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glam.config.registry import Registry

MAX_BAD_SHARE = 0.01  # of records: more says that the files are other than they are taken for
Role = Literal["held_out", "curated", "pool"]


@dataclass(frozen=True, slots=True)
class Record:
    """One document as a reader gives it."""

    text: str
    domain: str | None = None  # stands in for its source's name where it is given
    score: float | None = None  # a quality score that was published with it; higher is better


@dataclass(frozen=True, slots=True)
class BadRecord:
    """What a reader could not make a document of; it goes on with the next."""

    kind: str  # what is wrong, in words that are counted: "not JSON", "not UTF-8", …
    place: str  # the file, and its line (of parquet: row) where that is known: "a.jsonl:3"
    content: bytes = b""  # of the record, at most its first kilobyte
    count: int = 1  # of records that are lost together, as the rows of a damaged part of a parquet


# Files -> documents. A document that is text alone may be a plain `str`. Other processes call it,
# so it is a function of a module, or a `functools.partial` of one.
Reader = Callable[[Sequence[Path]], Iterator[str | Record | BadRecord]]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Text of one kind: a domain of evaluation and, unless held out, a part of a component."""

    name: str  # of the domain, in tables and columns
    role: Role  # curated text teaches the quality filter, which picks from the pool
    component: str  # of the paper's mixture, one of COMPONENTS
    files: Sequence[Path]  # their contents are part of the cache keys
    reader: Reader
    reader_name: str  # part of the cache keys: what the reader is, with its parameters
    max_bad_share: float = MAX_BAD_SHARE  # of its records; with more of them bad, it is refused


@dataclass(kw_only=True)
class CorpusConfig:
    """Keys of a corpus (`data.corpus.…`), and its sources."""

    name: str  # which corpus: a file of conf/data/corpus

    def build(self) -> list[Source]:
        """The sources, in an order that does not depend on how the keys list them. Raises
        UserError for text that is absent."""
        raise NotImplementedError(f"{type(self).__name__} has no build()")


CORPORA: Registry[CorpusConfig] = Registry("data/corpus")
