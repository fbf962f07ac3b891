"""The command that runs an experiment again."""

import dataclasses
import re
import shlex
from collections.abc import Iterator
from typing import Any, cast

from glam.config import RunConfig
from glam.config._data import LocalCorpusConfig
from glam.config._training import AdafactorConfig, PaperScheduleConfig
from glam.runs.record import Record, mapping

SECTIONS = ("model", "data", "optimizer", "schedule", "training", "evaluation", "seed")

# Choices of a group that are classes of their own: their fields have other names and defaults.
CHOICES: dict[tuple[str, str], Any] = {
    ("data/corpus", "local"): LocalCorpusConfig,
    ("optimizer", "adafactor"): AdafactorConfig,
    ("schedule", "paper"): PaperScheduleConfig,
}


def command(record: Record) -> str:
    """`python run.py` and every override that tells this configuration from the default one; with
    the threads and the precision that the run found, which are part of its identity."""
    default = dataclasses.asdict(RunConfig())
    words = ["python", "run.py"]
    for section in SECTIONS:
        if section in record.config:
            words += _overrides(section, record.config[section], default[section])
    for name in ("threads", "precision"):
        if name in record.summary:
            words.append(f"hardware.{name}={record.summary[name]}")
    return shlex.join(words)


def _overrides(key: str, value: Any, default: Any) -> Iterator[str]:
    """Groups before what is set inside them."""
    if not isinstance(value, dict):
        if value != default:
            yield f"{key}={_hydra(value)}"
        return
    parts, known = mapping(value), mapping(default)
    group = key.replace(".", "/")
    choice = str(parts.get("name"))
    if (group, choice) in CHOICES:
        yield f"{group}={choice}"
        known = dataclasses.asdict(CHOICES[group, choice]())
    for name, part in parts.items():
        yield from _overrides(f"{key}.{name}", part, known.get(name))


def _hydra(value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(_hydra, cast(list[Any], value))) + "]"
    text = str(value)
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_./][\w./*-]*", text):
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return text
