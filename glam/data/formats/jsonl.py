"""JSON lines: an object a line."""

import json
from collections.abc import Iterator
from pathlib import Path

from glam.config import BadRecord, Record
from glam.data.formats.bad import NOT_JSON, NOT_UTF8, bad
from glam.data.formats.fields import Fields
from glam.data.formats.lines import lines


def read(path: Path, fields: Fields) -> Iterator[Record | BadRecord]:
    """The documents of a `.jsonl`; blank lines are none."""
    import orjson

    loads, record = orjson.loads, fields.record
    for found in lines(path, fields.spec.most_bytes):
        if isinstance(found, BadRecord):
            yield found
            continue
        number, line = found
        try:
            value = loads(line)
        except ValueError:
            if line.strip():
                yield _again(line, path, number, fields)
        else:
            yield record(value, path, number, line)


def _again(line: bytes, path: Path, number: int, fields: Fields) -> Record | BadRecord:
    """The same by Python's parser, which takes what orjson does not: NaN, half a surrogate pair, a
    byte order mark in mid-file."""
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return bad(NOT_UTF8, path, number, line)
    except (ValueError, RecursionError):  # brackets too deep
        return bad(NOT_JSON, path, number, line)
    return fields.record(value, path, number, line)
