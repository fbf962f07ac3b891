"""The keys of the configuration, read from its dataclasses: default, type, unit and meaning.

A field's comment is its meaning, beside it or on the lines above; it may begin with a unit in
brackets: `tokens: int = 5_000_000  # [tokens] to train on`.
"""

import ast
import dataclasses
import functools
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Iterator
from typing import Any, get_args

from glam.composition.schema import classes_at
from glam.config import RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Key:
    """A key of the command line, as one class declares it."""

    name: str  # dotted: model.num_experts
    kind: type  # the dataclass of its section
    type: Any
    default: Any
    choices: tuple[str, ...] = ()  # names of a registry, where it takes one of them

    @property
    def section(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def field(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def unit(self) -> str:
        return comments(self.kind).get(self.field, ("", ""))[0]

    @property
    def meaning(self) -> str:
        meaning = comments(self.kind).get(self.field, ("", ""))[1]
        return f"{meaning} ({' | '.join(self.choices)})" if self.choices else meaning

    @property
    def type_name(self) -> str:
        """In words: `int`, `float or null`, `list of str`."""
        if self.type is Any:
            return "number or auto"
        name = str(self.type) if get_args(self.type) else self.type.__name__
        name = (
            name.replace("list[str]", "list of str")
            .replace("list[int | str]", "list of int or str")
            .replace("list[typing.Any]", "list of items")
            .replace("list[int]", "list of int")
            .replace("dict[str, ", "mapping to ")
        )
        return name.rstrip("]").replace(" | None", " or null")


@functools.cache
def all_keys() -> tuple[Key, ...]:
    """Every key of every class that may stand at its place; the default choice's last."""
    return tuple(_keys(RunConfig(), ""))


def _keys(node: Any, prefix: str) -> Iterator[Key]:
    for kind in classes_at(prefix.rstrip("."), node):
        instance = node if isinstance(node, kind) else kind()
        for field in dataclasses.fields(instance):
            value = getattr(instance, field.name)
            if dataclasses.is_dataclass(value):
                yield from _keys(value, f"{prefix}{field.name}.")
            else:
                name = prefix + field.name
                names = tuple(field.metadata.get("choices", ()))
                yield Key(name=name, kind=kind, type=field.type, default=value, choices=names)


def known_keys() -> dict[str, Any]:
    """Every key with its default."""
    return {key.name: key.default for key in all_keys()}


def integer_keys() -> frozenset[str]:
    """The keys whose values are whole numbers."""
    kinds = (int, int | None, list[int | str])
    return frozenset(key.name for key in all_keys() if key.type in kinds)


def text_keys() -> frozenset[str]:
    """The keys whose values are words, one or a list."""
    kinds = (str, str | None, list[str])
    return frozenset(key.name for key in all_keys() if key.type in kinds)


def sections() -> list[str]:
    """Dotted names of the sections, in the order of the configuration; the top is ''."""
    return list(dict.fromkeys(key.section for key in all_keys()))


@functools.cache
def comments(kind: type) -> dict[str, tuple[str, str]]:
    """Unit and meaning of each field of a dataclass, its base classes' included."""
    found: dict[str, tuple[str, str]] = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            own = _commented(textwrap.dedent(inspect.getsource(base)))
            found |= {name: both for name, both in own.items() if both[1] or name not in found}
    return found


def _commented(source: str) -> dict[str, tuple[str, str]]:
    """By field of the one class in `source`."""
    beside: dict[int, str] = {}  # by line
    alone: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            is_alone = token.line.lstrip().startswith("#")
            (alone if is_alone else beside)[token.start[0]] = token.string.lstrip("# ")
    [defined] = ast.parse(source).body
    assert isinstance(defined, ast.ClassDef)
    found: dict[str, tuple[str, str]] = {}
    for node in defined.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first, last = node.lineno, node.end_lineno or node.lineno
            words = [beside[line] for line in range(first, last + 1) if line in beside]
            while (first := first - 1) in alone:
                words.insert(0, alone[first])
            found[node.target.id] = _unit_and_meaning(" ".join(words))
    return found


def _unit_and_meaning(comment: str) -> tuple[str, str]:
    match = re.fullmatch(r"(?:\[([^\]]+)\])? ?(.*)", comment)
    assert match is not None
    return match[1] or "", match[2]
