"""A run's `config.yaml` as dataclasses."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from glam.config._run import GenerateTaskConfig, ListTaskConfig, PlanTaskConfig, TaskConfig
from glam.config.corpora import CORPORA
from glam.config.optimizers import OPTIMIZERS
from glam.config.registry import Registry
from glam.config.schedules import SCHEDULES

T = TypeVar("T")

# Groups of conf/ whose choices are classes of their own, by their dotted place in RunConfig.
GROUPS: dict[str, Registry[Any]] = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "data.corpus": CORPORA,
}

# Tasks that have keys of their own.
TASK_CLASSES: dict[str, type[TaskConfig]] = {
    "generate": GenerateTaskConfig,
    "list": ListTaskConfig,
    "plan": PlanTaskConfig,
}


def from_mapping(kind: type[T], content: Mapping[str, Any], place: str = "") -> T:
    """The configuration `kind` from a plain nested mapping, checked like any other. A field that
    the mapping lacks gets its default: the file is older than the field. `place` is the dotted
    place of `content` in RunConfig.

    Raises UserError for a value that is refused, and for a choice that does not exist any more.
    """
    default = kind()
    chosen: dict[str, Any] = {}
    for field in dataclasses.fields(default):  # type: ignore[arg-type]
        if field.name not in content:
            continue
        value: Any = content[field.name]
        section: Any = getattr(default, field.name)
        if dataclasses.is_dataclass(section):
            where = f"{place}{field.name}"
            value = from_mapping(_class_at(where, section, value.get("name")), value, f"{where}.")
        chosen[field.name] = value
    return kind(**chosen)


def _class_at(place: str, default: object, name: str | None) -> type[Any]:
    """The class of a section, by the name that its content gives; without one, the default's."""
    if place == "task":
        return TASK_CLASSES.get(name or "", TaskConfig)
    if place in GROUPS and name is not None:
        return GROUPS[place][name]
    return type(default)
