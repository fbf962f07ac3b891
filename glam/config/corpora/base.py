"""What a corpus is: a list of sources. And the registry of corpora."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from glam.config.registry import Registry

COMPONENTS = ("webpages", "wikipedia", "conversations", "forums", "books", "news")
MAX_BAD_SHARE = 0.01  # of records: more says that the files are other than they are taken for
# Curated text teaches the quality filter, which picks from the pool; unfiltered text does neither.
Role = Literal["held_out", "curated", "unfiltered", "pool"]
ROLES: tuple[Role, ...] = get_args(Role)


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


# index of a file -> the file, which lies here for as long as the context is open
Fetch = Callable[[int], AbstractContextManager[Path]]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Text of one kind: a domain of evaluation and, unless held out, a part of a component.

    Its files may lie elsewhere, as those of a hub do. Such a source has a `fetch`, which brings one
    of its files here, and it knows `content` and `sizes` of every file beforehand: whether a stage
    is in the cache is then told without a file. Each of its files is read by itself, and `files`
    are only names (their suffixes tell the format): none of them need exist. Whoever reads any
    source takes its files from `here()`, which is the same for both kinds. A `fetch` can be
    pickled, for the processes that read."""

    name: str  # of the domain, in tables and columns
    role: Role
    component: str  # of the paper's mixture, one of COMPONENTS
    files: Sequence[Path]  # their contents are part of the cache keys
    reader: Reader
    reader_name: str  # part of the cache keys: what the reader is, with its parameters
    max_bad_share: float = MAX_BAD_SHARE  # of its records; with more of them bad, it is refused
    content: tuple[str, ...] | None = None  # a digest of each file; None: hashed from its bytes
    sizes: tuple[int, ...] | None = None  # [bytes] of each file; None: those of the files here
    fetch: Fetch | None = None  # None: the files are here
    # bytes of text for each byte of its files, about; None: the files tell
    expansion: float | None = None
    license: str = ""  # of the text, where it is known; part of no key
    origin: str = ""  # where the text is from, as a run records it; part of no key

    @contextmanager
    def here(self, indices: Sequence[int]) -> Generator[list[Path]]:
        """The files of these indices, to be read while the context is open. Raises UserError for
        what cannot be brought here."""
        with ExitStack() as brought:
            yield [self._file(index, brought) for index in indices]

    def _file(self, index: int, brought: ExitStack) -> Path:
        if self.fetch is None:
            return self.files[index]
        return brought.enter_context(self.fetch(index))

    def file_sizes(self) -> tuple[int, ...]:
        """[bytes] of each file, as it is stored."""
        if self.sizes is not None:
            return self.sizes
        return tuple(path.stat().st_size for path in self.files)


@dataclass(kw_only=True)
class CorpusConfig:
    """Keys of a corpus (`data.corpus.…`), and its sources."""

    name: str  # which corpus: a file of conf/data/corpus

    def build(self) -> list[Source]:
        """The sources, in an order that does not depend on how the keys list them. Raises
        UserError for text that is absent."""
        raise NotImplementedError(f"{type(self).__name__} has no build()")

    @property
    def has_scores(self) -> bool:
        """Whether web-like text may come with published quality scores."""
        return True


CORPORA: Registry[CorpusConfig] = Registry("data/corpus")
