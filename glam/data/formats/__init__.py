"""Files that people bring, read record by record: a module for each format.

What is no document is a `BadRecord` of its kind, and reading goes on behind it. No file is held
whole, and no record beyond `Spec.most_bytes`.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from glam.config import BadRecord, Record
from glam.data.formats import json_values, jsonl, parquet, table, text, wet
from glam.data.formats.fields import Fields, Spec, domain_name
from glam.data.formats.sizes import unpacked_bytes, usual_expansion
from glam.data.formats.unpack import COMPRESSED

_READERS: dict[str, Callable[[Path, Fields], Iterator[Record | BadRecord]]] = {
    ".jsonl": jsonl.read,
    ".json": json_values.read,
    ".parquet": parquet.read,
    ".csv": table.read,
    ".tsv": table.read,
    ".txt": text.read,
    ".wet": wet.read,
}
SUFFIXES = tuple(kind + packed for kind in _READERS for packed in ("", *COMPRESSED))


def records(paths: Sequence[Path], spec: Spec) -> Iterator[Record | BadRecord]:
    """The documents of files, in their order, and what is none. Raises UserError for a field that
    no record has."""
    fields = Fields(spec)
    for path in paths:
        yield from _READERS[format_of(path.name)](path, fields)
    fields.check()


def format_of(name: str) -> str:
    """The suffix that tells how a file is read, as `.jsonl` of `a.jsonl.gz`; "" where none does."""
    bare, dot, suffix = name.rpartition(".")
    if dot + suffix in COMPRESSED:
        bare, dot, suffix = bare.rpartition(".")
    return dot + suffix if bare and dot + suffix in _READERS else ""


def stem_of(name: str) -> str:
    """What a file is called, without the suffixes that tell how it is read."""
    for suffix in (*COMPRESSED, format_of(name), ".warc"):
        name = name.removesuffix(suffix)
    return name


__all__ = [
    "COMPRESSED",
    "SUFFIXES",
    "Spec",
    "domain_name",
    "format_of",
    "records",
    "stem_of",
    "unpacked_bytes",
    "usual_expansion",
]
