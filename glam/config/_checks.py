"""Checks of ranges. A refusal names the key, the value and the limits."""

import math
import os
import re
from dataclasses import field, fields
from pathlib import Path
from typing import Any

from glam.config.registry import Registry
from glam.errors import UserError

LARGEST = 1e15  # of any number: what is counted from several stays finite
LARGEST_SIZE = 10**9  # of a side of a tensor
# A folder's name has several parts, and its path is followed by those of the files in it.
MOST_NAME_BYTES, MOST_FILE_NAME_BYTES, MOST_PATH_BYTES = 120, 255, 3_500


def not_in_identity(default: Any) -> Any:
    """A field that cannot change a run's result, and so is no part of its identity."""
    return field(default=default, metadata={"result": False})


def choice_of(registry: Registry[Any], default: str) -> Any:
    """A field that takes a name of `registry`; `--help` lists them."""
    return field(default=default, metadata={"choices": registry})


def plain_name(key: str, name: str | None) -> None:
    """Raise UserError for a name that cannot be part of a folder's name, whose length is counted
    in bytes."""
    if name is not None and not (
        re.fullmatch(r"[\w][\w.+-]{0,63}", name) and len(name.encode()) <= MOST_NAME_BYTES
    ):
        raise UserError(
            f"{key}={name!r} becomes part of a folder's name; use up to 64 letters, digits, "
            f"and any of . _ + -"
        )


def plain_path(key: str, path: Path) -> None:
    """Raise UserError for a folder whose path leaves no room for the files of a run in it."""
    names = [len(os.fsencode(name)) for name in path.parts]
    if max(names) > MOST_FILE_NAME_BYTES or sum(names) + len(names) > MOST_PATH_BYTES:
        raise UserError(
            f"{key} is longer than a path may be ({MOST_FILE_NAME_BYTES} bytes a name, "
            f"{MOST_PATH_BYTES:,} in all); name another folder with {key}=..."
        )


def chosen_by_group(key: str, section: Any, *names: str) -> None:
    """Raise UserError where the name of a section is not of its class (by default its `names`, or
    the one it declares): a name says what was chosen, and choosing is the group's."""
    own = names or [one.default for one in fields(section) if one.name == "name"]
    if section.name not in own:
        group, name = key.replace(".", "/"), section.name
        raise UserError(
            f"{key}.name={name}: the name of a choice is not set but chosen; type {group}={name}"
        )


def positive(section: str, config: object, *names: str) -> None:
    """Raise UserError for a field of `names` that is not None, and not positive and at most
    LARGEST: whatever is counted from such numbers is finite."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value <= LARGEST:
            raise UserError(
                f"{section}{name}={shown(value)} must be positive, and at most {LARGEST:g}"
            )


def shown(value: float) -> str:
    """A number in a message: a whole one of hundreds of digits in short."""
    if isinstance(value, float) or abs(value) < 10**30:
        return str(value)
    return f"{'-' if value < 0 else ''}1e{math.floor(math.log10(abs(value)))}"


def divisors(number: int) -> list[int]:
    """All divisors of a positive whole number, in their order."""
    low = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return sorted({*low, *(number // n for n in low)})


def within(section: str, config: object, low: float, high: float, *names: str) -> None:
    """Raise UserError for a field of `names` that is below `low` or above `high`."""
    for name in names:
        if not low <= (value := getattr(config, name)) <= high:
            limits = " and ".join(
                f"{one:g}" if isinstance(one, float) else str(one) for one in (low, high)
            )
            raise UserError(f"{section}{name}={shown(value)} must lie between {limits}")


def unencodable(text: str) -> str | None:
    """Where a text holds what UTF-8 cannot, as `character 3`: a byte that the terminal did not
    send in UTF-8, or half of a surrogate pair; None where it holds none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"character {error.start + 1}"
    return None


def words(section: str, config: object, *names: str) -> None:
    """Raise UserError for a list that holds anything but words: the schema does not check items."""
    for name in names:
        value = getattr(config, name)
        if not all(isinstance(word, str) for word in value):
            raise UserError(f"{section}{name}={value} must be a list of words, as [one,two]")


def whole_numbers(
    section: str, config: object, low: int, high: int, *names: str, word: str
) -> None:
    """Raise UserError for a list that holds anything but different whole numbers from `low` to
    `high`, and `word`."""
    for name in names:
        value = getattr(config, name)
        numbers = [one for one in value if one != word]
        fits = all(type(number) is int and low <= number <= high for number in numbers)
        if not fits or len(set(value)) < len(value):
            typed = ",".join(map(str, value))
            raise UserError(
                f"{section}{name}={typed} must be different whole numbers from {low} to "
                f"{high:,}, or {word}; for example {section}{name}=0,1,{word}"
            )
