"""Tables with a header, as text: `.csv` and `.tsv`."""

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from glam.config import BadRecord, Record
from glam.data.formats.bad import ESCAPED, NOT_CSV, NOT_UTF8, TOO_LONG, bad
from glam.data.formats.fields import Fields
from glam.data.formats.lines import lines

_DELIMITERS = ",;\t|"


def read(path: Path, fields: Fields) -> Iterator[Record | BadRecord]:
    """The documents of a table, whose first line names the columns. A row's place is the line in
    which it begins. A quotation mark that is never closed costs its own line alone."""
    feed = _Feed(path, fields.spec.most_bytes)
    try:
        columns, delimiter = feed.header(fields.spec.text_field)
    except csv.Error:
        yield bad(NOT_CSV, path, 1)
        return
    if columns:
        fields.check_columns(path, columns)
    chosen = [(name, columns.index(name)) for name in fields.spec.names if name in columns]
    rows = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        try:
            row = feed.row_of(rows)
        except StopIteration:
            return
        except _BadLineError as error:
            yield error.line
            continue
        except csv.Error as error:
            kind = TOO_LONG if isinstance(error, _TooLongError) else NOT_CSV
            yield bad(kind, path, feed.number, feed.raw)
            feed.give_back()
            continue
        if len(row) == len(columns):
            values = {name: row[index] for name, index in chosen}
            if any(not v.isascii() and ESCAPED.search(v) for v in values.values()):
                yield bad(NOT_UTF8, path, feed.number, feed.raw)
            else:
                yield fields.record(values, path, feed.number, feed.raw)
        elif row:
            yield bad(NOT_CSV, path, feed.number, feed.raw)


def _cells(line: str, delimiter: str) -> list[str]:
    rows = csv.reader([line], delimiter=delimiter)
    return [name.strip() for row in rows for name in row]


class _TooLongError(csv.Error):
    """A row is longer than a record may be: a quotation mark was not closed, for one."""


class _BadLineError(Exception):
    """A line that is no text stands within a row or in its place."""

    def __init__(self, line: BadRecord) -> None:
        self.line = line


class _Feed:
    """Hands a file's lines to a csv reader, and knows those of the present row."""

    def __init__(self, path: Path, most: int) -> None:
        self._lines, self._most = lines(path, most), most
        self._again: deque[tuple[int, bytes]] = deque()
        self._held: list[tuple[int, bytes]] = []
        self._size = 0
        csv.field_size_limit(max(csv.field_size_limit(), most))

    @property
    def number(self) -> int:
        """Of the line in which the row begins."""
        return self._held[0][0] if self._held else 1

    @property
    def raw(self) -> bytes:
        """That line."""
        return self._held[0][1] if self._held else b""

    def header(self, column: str) -> tuple[list[str], str]:
        """The columns' names, and the delimiter: the first by which one of them is `column`. Raises
        csv.Error where the first line is none of a table."""
        for found in self._lines:
            if not isinstance(found, BadRecord) and found[1].strip():
                line = found[1].decode("utf-8", "replace")
                by = {each: _cells(line, each) for each in _DELIMITERS}
                chosen = next((each for each in by if column in by[each]), ",")
                return by[chosen], chosen
        return [], ","

    def row_of(self, rows: "Iterator[list[str]]") -> list[str]:
        """The next row. Raises StopIteration at the end."""
        self._held, self._size = [], 0
        return next(rows)

    def give_back(self) -> None:
        """Read the lines of the row once more, but for its first."""
        self._again.extendleft(reversed(self._held[1:]))

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        found = self._again.popleft() if self._again else next(self._lines)
        if isinstance(found, BadRecord):
            raise _BadLineError(found)
        self._held.append(found)
        self._size += len(found[1])
        if self._size > self._most:
            raise _TooLongError
        return found[1].decode("utf-8", "surrogateescape") + "\n"
