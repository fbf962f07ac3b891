"""Parquet: a row is a document. Columns that are not asked for are not read."""

import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from glam.config import BadRecord, Record
from glam.data.formats.bad import KEPT, NO_FIELD, NOT_UTF8, bad, damaged
from glam.data.formats.fields import Fields
from glam.data.formats.unpack import COMPRESSED, chunks
from glam.errors import NO_SPACE, UserError

_BATCH = 4_000_000  # bytes of text at once, about
_MOST_ROWS = 4_096
_TEXT = ("string", "binary", "fixed_size_binary", "null")  # types, as pyarrow writes them
_BUFFER = 1 << 20  # bytes of a column that are read from the disk at once


def read(path: Path, fields: Fields) -> Iterator[Record | BadRecord]:
    """The documents of a `.parquet`; a row's place is its number, from 1. Where a row group is
    damaged its rows are lost from there on, and no others."""
    with _opened(path) as file:
        if file is None:
            yield bad(damaged(path), path, None)
            return
        names = _names(file, path, fields)
        if fields.spec.text_field not in names:
            yield bad(NO_FIELD, path, None, count=file.metadata.num_rows)
            return
        row = 0
        for group in range(file.num_row_groups):
            end = row + file.metadata.row_group(group).num_rows
            for values in _rows(file, group, names):
                row += 1
                if any(isinstance(value, bytes) for value in values.values()):
                    found = bad(NOT_UTF8, path, row)
                else:
                    found = fields.record(values, path, row)
                yield found if isinstance(found, Record) else _shown(found, values, fields)
            if row < end:
                yield bad(damaged(path), path, row + 1, count=end - row)
                row = end


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    """The file as pyarrow's; None where it is no parquet. A compressed one is unpacked first, for
    its table of contents lies at the end."""
    import pyarrow  # pyright: ignore[reportMissingTypeStubs]
    from pyarrow import parquet  # pyright: ignore[reportMissingTypeStubs]

    library: Any = pyarrow
    reading: Any = parquet
    with tempfile.TemporaryFile() if path.suffix in COMPRESSED else path.open("rb") as file:
        if path.suffix in COMPRESSED:
            _unpack(path, file)
        try:
            # A buffer: a row group of gigabytes is read bit by bit.
            found: Any = reading.ParquetFile(
                file, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
            )
        except (OSError, ValueError, library.ArrowException) as error:
            _raise_if_of_disk(error)
            found = None
        yield found


def _unpack(path: Path, file: IO[bytes]) -> None:
    """Raises UserError where the disk of temporary files is full."""
    try:
        for chunk in chunks(path):
            file.write(chunk if isinstance(chunk, bytes) else b"")
        file.seek(0)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise UserError(
            f"{path} is unpacked in {tempfile.gettempdir()}, which has no space left; free some, "
            f"set TMPDIR=<another disk>, or unpack it yourself"
        ) from None


def _raise_if_of_disk(error: Exception) -> None:
    """What pyarrow finds wrong with a file is an OSError too, without a number."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def _names(file: Any, path: Path, fields: Fields) -> list[str]:
    """The columns that are read. Raises UserError for one that is not there, and for a column of
    something else than text."""
    columns = list(_columns(file.schema_arrow))
    fields.check_columns(path, [name for name, _ in columns])
    kinds = dict(columns)
    kind = str(kinds.get(fields.spec.text_field, "null"))
    if not kind.removeprefix("dictionary<values=").removeprefix("large_").startswith(_TEXT):
        raise UserError(
            f"{path}: {fields.spec.text_field!r}, which {fields.spec.text_key} names, holds "
            f"{kind}, not text"
        )
    return [name for name in fields.spec.names if name in kinds]


def _columns(fields: Iterable[Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Names and types of columns, of those inside others by their paths."""
    from pyarrow import types  # pyright: ignore[reportMissingTypeStubs]

    library: Any = types
    for each in fields:
        if library.is_struct(each.type):
            yield from _columns(each.type, f"{before}{each.name}.")
        else:
            yield before + each.name, each.type


def _rows(file: Any, group: int, names: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of a row group until its end, or until it cannot be read."""
    import pyarrow  # pyright: ignore[reportMissingTypeStubs]

    library: Any = pyarrow
    found = file.metadata.row_group(group)
    sizes = [found.column(index) for index in range(found.num_columns)]
    size = sum(each.total_uncompressed_size for each in sizes if each.path_in_schema in names)
    batch_size = max(1, min(_MOST_ROWS, _BATCH * found.num_rows // max(1, size)))
    batches = file.iter_batches(batch_size, [group], names, use_threads=False)
    while True:
        try:
            batch = next(batches, None)
            columns = [] if batch is None else [_values(batch, name) for name in names]
        except (OSError, ValueError, library.ArrowException) as error:
            _raise_if_of_disk(error)
            return
        if batch is None:
            return
        for row in zip(*columns, strict=True):
            yield dict(zip(names, row, strict=True))


def _values(batch: Any, name: str) -> list[Any]:
    """A column of a batch. Text that is not UTF-8 stays bytes."""
    import pyarrow  # pyright: ignore[reportMissingTypeStubs]
    from pyarrow import compute  # pyright: ignore[reportMissingTypeStubs]

    library: Any = pyarrow
    functions: Any = compute
    if batch.schema.get_field_index(name) >= 0:
        column = batch.column(name)
    else:
        first, *others = name.split(".")
        column = functions.struct_field(batch.column(first), others)
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        values = column.cast(library.large_binary()).to_pylist()
    return [_text(value) if isinstance(value, bytes) else value for value in values]


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _shown(found: BadRecord, values: dict[str, Any], fields: Fields) -> BadRecord:
    """The bad record with its text."""
    text = values.get(fields.spec.text_field)
    raw = text if isinstance(text, bytes) else str(text)[:KEPT].encode("utf-8", "replace")
    return replace(found, content=raw[:KEPT])
