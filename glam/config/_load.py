"""A run's `config.yaml` as dataclasses."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast, get_type_hints

from glam.config._before_seals import KEYS
from glam.config._tasks import (
    AnalyzeTaskConfig,
    BiasTaskConfig,
    EvaluateTaskConfig,
    ExportTaskConfig,
    GenerateTaskConfig,
    ListTaskConfig,
    PlanTaskConfig,
    TaskConfig,
)
from glam.config.corpora import CORPORA
from glam.config.optimizers import OPTIMIZERS
from glam.config.registry import Registry
from glam.config.schedules import SCHEDULES
from glam.errors import UserError
from glam.files import check_type

T = TypeVar("T")

# Groups of conf/ whose choices are classes of their own, by their dotted place in RunConfig.
GROUPS: dict[str, Registry[Any]] = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "data.corpus": CORPORA,
}

# Tasks that have keys of their own.
TASK_CLASSES: dict[str, type[TaskConfig]] = {
    "analyze": AnalyzeTaskConfig,
    "bias": BiasTaskConfig,
    "evaluate": EvaluateTaskConfig,
    "export": ExportTaskConfig,
    "generate": GenerateTaskConfig,
    "list": ListTaskConfig,
    "plan": PlanTaskConfig,
}

RENAMED = {"checkpoint": "run"}  # 0.1's keys


def from_mapping(
    kind: type[T], content: Mapping[str, Any], place: str = "", *, may_lack: bool = False
) -> T:
    """The configuration `kind` from a plain nested mapping, checked like any other. `place` is the
    dotted place of `content` in RunConfig. `may_lack`: a field that is missing gets its default,
    since the content is known to be whole and older than the field.

    Raises UserError for a key that is missing or unknown, for a value that is refused or of
    another type, and for a choice that does not exist any more.
    """
    default = kind()
    content = {RENAMED.get(name, name) if not place else name: content[name] for name in content}
    names = [field.name for field in dataclasses.fields(cast(Any, default))]
    _check_names(names, content, place, () if may_lack else KEYS.get(kind.__name__, names))
    types = get_type_hints(kind)
    chosen: dict[str, Any] = {}
    for name in filter(content.__contains__, names):
        value, section, key = content[name], getattr(default, name), place + name
        if dataclasses.is_dataclass(section):
            content_there = _mapping(key, value)
            there = _class_at(key, section, content_there.get("name"))
            value = from_mapping(there, content_there, f"{key}.", may_lack=may_lack)
        else:
            _check_type(key, value, types[name])
        chosen[name] = value
    return kind(**chosen)


def _check_names(
    names: list[str], content: Mapping[str, Any], place: str, needed: Iterable[str]
) -> None:
    for name in content:
        if name not in names:
            raise UserError(f"there is no key {place}{name}")
    for name in needed:
        if name not in content:
            raise UserError(f"{place}{name} is missing")


def _mapping(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{key} holds no keys and values")
    return cast(dict[str, Any], value)


def _check_type(key: str, value: Any, kind: Any) -> None:
    try:
        check_type(value, kind)
    except ValueError as error:
        raise UserError(f"{key}: {error}") from None


def _class_at(place: str, default: object, name: Any) -> type[Any]:
    """The class of a section, by the name that its content gives; without one, the default's."""
    if place == "task":
        return TASK_CLASSES.get(str(name), TaskConfig)
    if place in GROUPS and name is not None:
        return GROUPS[place][str(name)]
    return type(default)
