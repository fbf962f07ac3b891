"""The command that runs an experiment again."""

import dataclasses
import re
import shlex
from collections.abc import Iterator
from typing import Any, cast

from glam.config import GROUPS, RunConfig
from glam.runs.record import Record, mapping

SECTIONS = ("model", "data", "optimizer", "schedule", "training", "evaluation", "seed")


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
    choice = str(parts.get("name"))
    if key in GROUPS and choice != known["name"] and choice in GROUPS[key]:
        # Another class: its fields have other names and defaults.
        yield f"{key.replace('.', '/')}={choice}"
        known = dataclasses.asdict(GROUPS[key][choice]())
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
