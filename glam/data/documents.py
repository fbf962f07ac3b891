"""Documents `{text, source}` of each source, stored as a Hugging Face dataset on disk.

Beside the text lie two small arrays, so that the split needs no text: a hash that names each
document (`hashes.npy`, uint64) and its length (`characters.npy`, int64).
"""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.config import BadRecord, Source
from glam.data.cache import Cache
from glam.data.formats.bad import check_share, in_words
from glam.data.hashing import digest, document_hash, file_digest
from glam.data.text import clean, reserved_in
from glam.errors import UserError
from glam.log import log
from glam.progress import bar

_VERSION = 1  # of everything here, of the readers and of `clean`
_FEW = 200  # documents held in memory at once: speeches are long


class Documents:
    """The documents of one source, in the order in which they were read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.hashes: NDArray[np.uint64] = np.load(folder / "hashes.npy")
        self.characters: NDArray[np.int64] = np.load(folder / "characters.npy")

    def texts(self, indices: NDArray[np.int64]) -> Iterator[str]:
        """The text of some documents, in ascending order of `indices`."""
        if not len(indices):  # of no document at all: datasets cannot load what it saved
            return
        dataset = _datasets().Dataset.load_from_disk(str(self._folder / "text"))
        for start in range(0, len(indices), _FEW):
            yield from dataset[indices[start : start + _FEW].tolist()]["text"]


def documents_key(source: Source) -> str:
    """Hash of a source's content: the bytes of its files and the reader, not their paths."""
    files = [[path.name, *_content(path)] for path in source.files]
    return digest([_VERSION, source.name, source.reader_name, files])


def text_fingerprint(sources: Sequence[Source]) -> str:
    """Hash of the text of sources and of how it is read: equal wherever the files lie and whatever
    they are called, as long as their order and their domains are the same."""
    return digest(
        [
            [source.name, source.role, source.component, source.reader_name]
            + [list(_content(path)) for path in source.files]
            for source in sources
        ]
    )


def _content(path: Path) -> tuple[int, str]:
    """Bytes and hash of a file. Raises UserError where it cannot be read."""
    try:
        found = path.stat()
        return found.st_size, _digest(path, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise UserError(
            f"data.corpus: {path} cannot be read ({error.strerror}); make it readable, or leave "
            f"it out"
        ) from None


@cache
def _digest(path: Path, _size: int, _time: int) -> str:
    """Once a process, unless the file has changed: a corpus may be gigabytes."""
    return file_digest(path)


def store(source: Source, key: str, cache: Cache) -> Documents:
    """Read a source once; empty documents are left out."""
    inputs = {"documents": key}
    return Documents(cache.stage("documents", inputs, lambda folder: _write(source, folder)))


def _write(source: Source, folder: Path) -> None:
    hashes: list[int] = []
    characters: list[int] = []
    replaced: Counter[str] = Counter()

    def rows() -> Iterator[dict[str, str]]:
        total = sum(path.stat().st_size for path in source.files)
        with bar(f"read {source.name}", total, "bytes") as running:
            for raw in _read(source):
                replaced.update(reserved_in(raw))
                if text := clean(raw):
                    hashes.append(document_hash(text))
                    characters.append(len(text))
                    yield {"text": text, "source": source.name}
                # Text and file differ in size (markup, compression): the bar may end early.
                running.advance(min(len(raw), total - running.done))
            running.advance(total - running.done)
        if words := ", ".join(f"{count:,} {what}" for what, count in replaced.items()):
            log.warning(f"{source.name}: replaced what no token can hold: {words}")

    _to_disk(rows(), folder)
    np.save(folder / "hashes.npy", np.array(hashes, np.uint64))
    np.save(folder / "characters.npy", np.array(characters, np.int64))


def _read(source: Source) -> Iterator[str]:
    """The source's documents. Raises UserError where a file cannot be read after all."""
    try:
        records, counts, first = 0, Counter[str](), ""
        for found in source.reader(source.files):
            records += 1
            if isinstance(found, BadRecord):
                first = first or found.place
                counts[found.kind] += found.count
            else:
                yield found if isinstance(found, str) else found.text
        check_share(source.name, records, counts, first, source.max_bad_share)
        if counts:
            log.warning(f"{source.name}: left out what is no document: {in_words(counts)}")
    except OSError as error:
        raise UserError(
            f"data.corpus: {error.filename or source.name} cannot be read ({error.strerror}); "
            f"leave it out"
        ) from None


def _to_disk(rows: Iterator[dict[str, str]], folder: Path) -> None:
    datasets = _datasets()
    # 2 GiB of text overflow the offsets of a plain string.
    columns = {"text": datasets.Value("large_string"), "source": datasets.Value("string")}
    features = datasets.Features(columns)
    if (first := next(rows, None)) is None:  # which `from_generator` refuses
        empty: dict[str, list[str]] = {name: [] for name in columns}
        datasets.Dataset.from_dict(empty, features).save_to_disk(str(folder / "text"))
        return
    try:
        dataset = datasets.Dataset.from_generator(
            lambda: chain([first], rows),
            features=features,
            cache_dir=str(folder / "scratch"),
            fingerprint=folder.name.partition(".")[0],
            writer_batch_size=_FEW,
        )
    except datasets.exceptions.DatasetGenerationError as error:
        raise error.__cause__ or error from error  # the reader's own error
    dataset.save_to_disk(str(folder / "text"))
    shutil.rmtree(folder / "scratch")


def _datasets() -> Any:
    """The package `datasets`, imported late: it takes a second, and a run with cached tokens does
    not need it. Its progress bars are off, since ours show the same."""
    import datasets  # pyright: ignore[reportMissingTypeStubs]

    datasets.disable_progress_bars()
    return datasets
