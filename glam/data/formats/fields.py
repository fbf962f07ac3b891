"""A document of a record with named fields: which of them hold its text, its domain, its score."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from glam.config import BadRecord, Record
from glam.data.formats.bad import (
    EMPTY,
    NO_FIELD,
    NO_SCORE,
    NOT_OBJECT,
    NOT_TEXT,
    TOO_LONG,
    bad,
)
from glam.errors import UserError, nearest

_SOON = 1_000  # records without a field tell that it is in none
_NAMES = 50  # of fields that a refusal may choose the nearest from
_LONGEST = (
    60  # characters that are shown of a field's name: a table without a header has text there
)


@dataclass(frozen=True)
class Spec:
    """How records are read; the fields' names may be paths, as `doc.text`."""

    text_field: str = "text"
    domain_field: str | None = None
    score_field: str | None = None
    most_bytes: int = 16_000_000  # of a record; a longer one is bad
    demands_all: bool = True  # whether some record must have each of the fields, or its text alone
    sections: bool = False  # whether a .txt is cut into sections; else it is one document
    # What names the fields, for refusals.
    text_key: str = "data.corpus.text_field"
    domain_key: str = "data.corpus.domain_field"
    score_key: str = "data.corpus.score_field"

    @property
    def names(self) -> list[str]:
        """Of the fields that are read."""
        named = (self.text_field, self.domain_field, self.score_field)
        return [name for name in named if name is not None]


class Fields:
    """Makes documents of the records of some files. A field that none of them has is a mistake in
    its name: that is refused, and soon."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        named = {spec.text_key: spec.text_field}
        if spec.demands_all:
            named |= {spec.domain_key: spec.domain_field, spec.score_key: spec.score_field}
        # Of each field that nobody has had: its name, by key.
        self._unseen = {key: name for key, name in named.items() if name is not None}
        self._without, self._first, self._names = 0, "", dict[str, None]()

    def record(self, found: Any, path: Path, at: int, content: bytes = b"") -> Record | BadRecord:
        """The document of what was parsed at line (row) `at`."""
        if not isinstance(found, dict):
            return bad(NOT_OBJECT, path, at, content)
        values, spec = cast(dict[str, Any], found), self.spec
        if self._unseen:
            self._look(values, path, at)
        text = value_of(values, spec.text_field)
        if isinstance(text, str) and len(text) > spec.most_bytes:
            return bad(TOO_LONG, path, at, content)
        if not isinstance(text, str):
            kind = EMPTY if text is None else NO_FIELD if text is ABSENT else NOT_TEXT
            return bad(kind, path, at, content)
        if not text or text.isspace():
            return bad(EMPTY, path, at, content)
        domain = spec.domain_field and domain_name(value_of(values, spec.domain_field))
        if spec.score_field is None:
            return Record(text, domain)
        score = _number(value_of(values, spec.score_field))
        if score is None and spec.demands_all:
            return bad(NO_SCORE, path, at, content)
        return Record(text, domain, score)

    def _look(self, values: Mapping[str, Any], path: Path, at: int) -> None:
        """Note which fields a record has, until each was seen."""
        self._unseen = {
            key: name for key, name in self._unseen.items() if value_of(values, name) is ABSENT
        }
        if not self._unseen:
            return
        self._without += 1
        self._first = self._first or f"{path}:{at}"
        if len(self._names) < _NAMES:
            self._names |= dict.fromkeys(_paths(values))
        if self._without == _SOON:
            self.check()

    def check(self) -> None:
        """Raises UserError where records were read and a field was in none of them."""
        for key, name in self._unseen.items():
            if self._without:
                refuse_field(key, name, self._first, self._names)

    def check_columns(self, path: Path, columns: Iterable[str]) -> None:
        """Raises UserError for a field that is no column of a table, or several."""
        names = list(columns)
        for name in self.spec.names:
            if names.count(name) > 1:
                raise UserError(
                    f"{path}: {names.count(name)} columns are called {name!r}; rename one"
                )
        for key, name in self._unseen.items():
            if name not in names:
                refuse_field(key, name, str(path), names)
        self._unseen = {}


def refuse_field(key: str, name: str, place: str, names: Iterable[str]) -> None:
    shown = [each if len(each) <= _LONGEST else f"{each[:_LONGEST]}…" for each in names]
    way = nearest(name, shown[:_NAMES]) if shown else "it has no fields"
    raise UserError(f"{place}: no field {name!r}, which {key} names; {way}")


class _Absent:
    """Stands for the value of a field that is not there; None is a value."""


ABSENT = _Absent()


def value_of(values: Mapping[str, Any], name: str) -> Any:
    """The value of a field, by its name or by its path; ABSENT where there is none."""
    found: Any = values.get(name, ABSENT)
    if found is not ABSENT or "." not in name:
        return found
    found = values
    for part in name.split("."):
        if not isinstance(found, dict):
            return ABSENT
        found = cast(dict[str, Any], found).get(part, ABSENT)
    return found


def domain_name(value: Any) -> str | None:
    """A name for tables, columns and files; None where the value is none."""
    if value is None or value is ABSENT or isinstance(value, (dict, list)):
        return None
    return re.sub(r"[^\w.-]+", "_", str(value))[:100] or None


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _paths(values: Mapping[str, Any], before: str = "") -> list[str]:
    """The fields of a record, nested ones by their paths."""
    found: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _paths(cast(dict[str, Any], value), f"{before}{name}.")
        else:
            found.append(before + name)
    return found
