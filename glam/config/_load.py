"""A run's `config.yaml` back into dataclasses."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from glam.config._data import EmbeddedCorpusConfig, LocalCorpusConfig
from glam.config._run import GenerateTaskConfig, ListTaskConfig, PlanTaskConfig, TaskConfig
from glam.config._training import (
    AdafactorConfig,
    AdamWConfig,
    LinearScheduleConfig,
    PaperScheduleConfig,
)

T = TypeVar("T")

# Sections that may be of several classes, by the name that the file gives.
CLASSES: dict[str, dict[str, type]] = {
    "corpus": {"embedded": EmbeddedCorpusConfig, "local": LocalCorpusConfig},
    "optimizer": {"adamw": AdamWConfig, "adafactor": AdafactorConfig},
    "schedule": {"linear": LinearScheduleConfig, "paper": PaperScheduleConfig},
    "task": {"generate": GenerateTaskConfig, "plan": PlanTaskConfig, "list": ListTaskConfig},
}


def from_mapping(kind: type[T], content: Mapping[str, Any]) -> T:
    """The configuration `kind` from a plain nested mapping, checked like any other. A field that
    the mapping lacks has its default: it was written before the field was."""
    default = kind()
    chosen: dict[str, Any] = {}
    for field in dataclasses.fields(default):  # type: ignore[arg-type]
        if field.name not in content:
            continue
        value: Any = content[field.name]
        section: Any = getattr(default, field.name)
        if dataclasses.is_dataclass(section):
            fallback: type[Any] = TaskConfig if field.name == "task" else type(section)
            chosen_class = CLASSES.get(field.name, {}).get(value.get("name"), fallback)
            value = from_mapping(chosen_class, value)
        chosen[field.name] = value
    return kind(**chosen)
