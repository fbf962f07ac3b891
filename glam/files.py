"""Files that glam wrote, read strictly: what one holds is checked against a type before anything
uses it, and a refusal names the file, what is wrong with it, and the way out.

A type is a dataclass, or a TypedDict where its readers want a mapping, marked with `strict`.
"""

import functools
import json
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from glam.errors import UserError, first_line

T = TypeVar("T")

MOST_BYTES = 2**28  # of a file that is read whole
SHOWN = 60  # characters of a value in a refusal
# The parser in C is ten times faster, and not in every build of PyYAML.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def strict(*, unknown: str = "forbid") -> Callable[[type[T]], type[T]]:
    """Marks a class that files are read into: no value is converted, no number is NaN or infinite,
    no field without a default is missing. `unknown` fields: "forbid", or "allow" where later
    versions add some."""

    def mark(kind: type[T]) -> type[T]:
        config = {"strict": True, "allow_inf_nan": False, "extra": unknown}
        kind.__pydantic_config__ = config  # pyright: ignore[reportAttributeAccessIssue]
        return kind

    return mark


def read_json(file: Path, kind: type[T], *, way_out: str) -> T:
    """What the JSON file holds, as `kind`.

    Raises FileNotFoundError where there is no such file, and UserError, which ends in `way_out`,
    for one that cannot be read or holds anything else.
    """
    from pydantic import ValidationError  # a tenth of a second: where a file is read

    try:
        return _adapter(kind).validate_json(_read(file), strict=True)
    except FileNotFoundError:
        raise
    except (OSError, ValidationError, ValueError) as error:
        raise _unfit(file, reason_of(error), way_out) from None


def parse_json(content: bytes, kind: type[T]) -> T:
    """What JSON holds, as `kind`. Raises ValueError, one clause, where it holds anything else."""
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        raise ValueError(reason_of(error)) from None


def read_json_if_there(file: Path, kind: type[T], *, way_out: str) -> T | None:
    """As `read_json`; None where there is no such file."""
    try:
        return read_json(file, kind, way_out=way_out)
    except FileNotFoundError:
        return None


def read_yaml(file: Path, *, way_out: str) -> dict[str, Any]:
    """The mapping that the YAML file holds. Raises as `read_json`."""
    try:
        content: Any = yaml.load(_read(file), LOADER)  # safe: a SafeLoader
    except FileNotFoundError:
        raise
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise _unfit(file, reason_of(error), way_out) from None
    if not isinstance(content, dict):
        raise _unfit(file, "it holds no keys and values", way_out)
    return cast(dict[str, Any], content)


def read_text(file: Path, *, way_out: str) -> str:
    """The text of a file. Raises as `read_json`."""
    try:
        return _read(file).decode("utf-8")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise _unfit(file, reason_of(error), way_out) from None


def check_type(value: Any, kind: Any) -> None:
    """Raises ValueError, one clause, for a value that is not of the type `kind`: not converted,
    and finite."""
    from pydantic import ValidationError

    try:
        _adapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        raise ValueError(reason_of(error)) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no finite number")


def to_json(content: Any) -> str:
    """The text of a JSON file. Raises ValueError for NaN and infinity, which JSON has not."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def reason_of(error: Exception) -> str:
    """One clause on why a file is no good."""
    if isinstance(error, OSError):
        return error.strerror or first_line(error)
    if isinstance(error, yaml.YAMLError):
        mark: Any = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or first_line(error)
        return f"{problem}, line {mark.line + 1}" if mark is not None else problem
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return _of_validation(error) or first_line(error)


def _of_validation(error: Exception) -> str | None:
    """The first of the values that pydantic refuses."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return None
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"][:1].lower() + first["msg"][1:]
    if first["type"] in ("missing", "json_invalid", "unexpected_keyword_argument"):
        return f"{place}: {message}" if place else message
    value = repr(first["input"])
    shown = value if len(value) <= SHOWN else value[:SHOWN] + "…"
    return f"{place}={shown}: {message}" if place else f"{shown}: {message}"


def _unfit(file: Path, reason: str, way_out: str) -> UserError:
    return UserError(f"{file} cannot be read ({reason}); {way_out}")


@functools.cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _read(file: Path) -> bytes:
    """The bytes of a regular file; a pipe, a device or a folder in its place is refused, since
    reading one may never end. Raises OSError, and ValueError for a file beyond MOST_BYTES."""
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb", closefd=True) as opened:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no regular file")
        if found.st_size > MOST_BYTES:
            raise ValueError(f"it has {found.st_size:,} bytes; {MOST_BYTES:,} is the most")
        return opened.read(MOST_BYTES)
