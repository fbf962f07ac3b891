"""The fields of a configuration by their dotted keys, for tests that walk all of them."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def keys(config: Any, place: str = "") -> Iterator[str]:
    """`model.d_ff` and its like, of every field that is no section."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from keys(value, f"{place}{field.name}.")
        else:
            yield f"{place}{field.name}"


def value_of(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config


def with_value(config: T, key: str, value: Any) -> T:
    """A copy. Not checked: whether the value makes sense does not matter to a key or an id."""
    config = deepcopy(config)
    section, _, name = key.rpartition(".")
    setattr(value_of(config, section) if section else config, name, value)
    return config
