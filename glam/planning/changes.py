"""Changes of a configuration by dotted key, as an override on the command line makes them."""

import dataclasses
from typing import Any, TypeVar

Node = TypeVar("Node")

# Dotted key to value. A group's own name holds a whole choice of it: {"optimizer": Adafactor…}.
Changes = dict[str, Any]


def changed(node: Node, changes: Changes) -> Node:
    """A copy of `node` with these fields set. Raises UserError as the command line would."""
    direct: Changes = {}
    nested: dict[str, Changes] = {}
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        if rest:
            nested.setdefault(head, {})[rest] = value
        else:
            direct[head] = value
    for head, inner in nested.items():
        direct[head] = changed(direct.get(head, getattr(node, head)), inner)
    return dataclasses.replace(node, **direct)  # type: ignore[type-var]


def value_at(node: Any, key: str) -> Any:
    """The value of the dotted `key` in the configuration `node`."""
    for part in key.split("."):
        node = getattr(node, part)
    return node


def is_field(node: Any, key: str) -> bool:
    """Whether `key` names a plain value, and neither a section nor an unknown key."""
    for part in key.split("."):
        if not dataclasses.is_dataclass(node) or part not in _names(node):
            return False
        node = getattr(node, part)
    return not dataclasses.is_dataclass(node)


def _names(node: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(node)}


def key_of(override: str) -> str:
    """The key that an override on the command line sets or removes, without its package."""
    return override.lstrip("+~").split("=")[0].split("@")[0]


def as_typed(key: str, value: Any) -> str:
    """`key=value` for the command line; the choice of a group is written by its name."""
    if dataclasses.is_dataclass(value):
        return f"{key}={value.name}"  # type: ignore[attr-defined]
    return f"{key}={str(value).lower() if isinstance(value, bool) else value}"
