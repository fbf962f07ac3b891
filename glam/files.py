"""Files that glam wrote, read strictly: what one holds is checked against a type before anything
uses it, and a refusal names the file, what is wrong with it, and the way out.

A type is a dataclass, or a TypedDict where its readers want a mapping, marked with `strict`. A
mapping that is sealed holds the SHA-256 of what else it holds: one changed value shows.
"""

import errno
import functools
import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from glam.errors import UserError, first_line

T = TypeVar("T")

MOST_BYTES = 2**28  # of a file that is read whole
SEAL = "sha256"  # key of a sealed mapping
SHOWN = 60  # characters of a value in a refusal
# The parser in C is ten times faster, and not in every build of PyYAML.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UnfitError(UserError):
    """A file that could be read, and does not hold what glam writes into it."""


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
    """What the JSON file holds, as `kind`, its seal checked and left out.

    Raises FileNotFoundError where there is no such file, UnfitError for one that holds anything
    else, and UserError for one that cannot be read; both end in `way_out`.
    """
    data = _data(file, way_out)
    try:
        # What JSON has no word for, as NaN, is null to whoever reads it.
        content: Any = json.loads(data, parse_constant=_null)
        return _adapter(kind).validate_json(json.dumps(unsealed(content)), strict=True)
    except (ValueError, RecursionError) as error:
        raise _unfit(file, error, way_out) from None


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
    """The mapping that the YAML file holds, with its seal. Raises as `read_json`."""
    data = _data(file, way_out)
    try:
        content: Any = yaml.load(data, LOADER)  # safe: a SafeLoader
        if not isinstance(content, dict):
            raise ValueError("it holds no keys and values")
        return cast(dict[str, Any], content)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise _unfit(file, error, way_out) from None


def read_text(file: Path, *, way_out: str) -> str:
    """The text of a file. Raises as `read_json`."""
    data = _data(file, way_out)
    try:
        return data.decode("utf-8")
    except ValueError as error:
        raise _unfit(file, error, way_out) from None


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping as JSON has it, behind its seal: a file that is cut does not lose it."""
    plain = _as_json_has_it(content)
    return {SEAL: _seal(plain), **plain}


def unsealed(content: Any) -> Any:
    """What a mapping holds without its seal, which may be absent: versions before 0.3 wrote none.
    Raises ValueError where the seal is not that of the rest. Anything but a mapping stays as it
    is."""
    if not isinstance(content, dict) or SEAL not in content:
        return cast(Any, content)
    rest = {name: value for name, value in cast(dict[str, Any], content).items() if name != SEAL}
    if content[SEAL] != _seal(rest):
        raise ValueError("it was changed after it was written")
    return rest


def _seal(content: Mapping[str, Any]) -> str:
    """The same for equal content, however the file is laid out."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
    """The text of a JSON file. NaN and infinity, for which JSON has no word, become null."""
    return json.dumps(_as_json_has_it(content), indent=1, ensure_ascii=False) + "\n"


def _as_json_has_it(content: Any) -> Any:
    return json.loads(json.dumps(content), parse_constant=_null)


def _null(_: str) -> None:
    """In the place of NaN and infinity."""


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


def _unfit(file: Path, error: Exception, way_out: str) -> UnfitError:
    return UnfitError(f"{file} cannot be read ({reason_of(error)}); {way_out}")


def _data(file: Path, way_out: str) -> bytes:
    try:
        return _read(file)
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:  # nor is there one below a file
        raise FileNotFoundError(errno.ENOENT, reason_of(error), str(file)) from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({reason_of(error)}); {way_out}") from None


@functools.cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _read(file: Path) -> bytes:
    """The bytes of a regular file; a pipe, a device or a folder in its place is refused, since
    reading one may never end. Raises OSError."""
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as opened:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(file))
        if found.st_size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES:,} bytes", str(file))
        return opened.read(MOST_BYTES)
