"""A source: text of one kind, where it lies and how it is read. Registries of corpora return it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# Curated text teaches the quality filter, which picks from the pool; held-out text is evaluated
# on and never trained on.
Role = Literal["held_out", "curated", "pool"]
# Takes the files of a source and yields the text of its documents.
Reader = Callable[[Sequence[Path]], Iterator[str]]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Text of one kind: a domain of evaluation and, unless held out, a part of a component."""

    name: str
    role: Role
    component: str  # of the paper's mixture
    files: tuple[Path, ...]
    reader: Reader
    reader_name: str  # the reader and its parameters, for cache keys
