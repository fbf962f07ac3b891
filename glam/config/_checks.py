"""Checks of ranges. A refusal names the key, the value and the limits."""

import re
from dataclasses import field
from typing import Any

from glam.config.registry import Registry
from glam.errors import UserError


def not_in_identity(default: Any) -> Any:
    """A field that cannot change a run's result, and so is no part of its identity."""
    return field(default=default, metadata={"result": False})


def choice_of(registry: Registry[Any], default: str) -> Any:
    """A field that takes a name of `registry`; `--help` lists them."""
    return field(default=default, metadata={"choices": registry})


def plain_name(key: str, name: str | None) -> None:
    """Raise UserError for a name that cannot be part of a folder's name."""
    if name is not None and not re.fullmatch(r"[\w][\w.+-]{0,63}", name):
        raise UserError(
            f"{key}={name!r} becomes part of a folder's name; use up to 64 letters, digits, "
            f"and any of . _ + -"
        )


def positive(section: str, config: object, *names: str) -> None:
    """Raise UserError for a field of `names` that is not None, and not positive and finite."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"{section}{name}={value} must be positive and finite")


def within(section: str, config: object, low: float, high: float, *names: str) -> None:
    """Raise UserError for a field of `names` that is below `low` or above `high`."""
    for name in names:
        if not low <= (value := getattr(config, name)) <= high:
            raise UserError(f"{section}{name}={value} must lie between {low} and {high}")


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
