"""The published figures of GLaM and GPT-3, from the data file beside this module."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glam.evaluation.suites.base import PublishedFigure
from glam.files import check_type, read_yaml, strict

FILE = Path(__file__).with_name("published.yaml")
SETTINGS = ("zero", "one", "few")


@strict()
@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the file: a model on a task, in per cent."""

    task: str
    metric: str
    model: str
    source: str
    zero: float | None = None
    one: float | None = None
    few: float | None = None
    shots: int | None = None  # demonstrations of `few`, where they are not the suite's
    doubt: dict[str, str] = field(default_factory=dict[str, str])


@strict()
@dataclass(frozen=True, kw_only=True)
class File:
    models: dict[str, str]
    sources: dict[str, str]
    figures: list[Row]
    averages: list[Row]


@functools.cache
def published_file() -> File:
    """What the file holds, checked against its type."""
    content: dict[str, Any] = read_yaml(FILE, way_out="restore it from the repository")
    rows = {key: [Row(**one) for one in content[key]] for key in ("figures", "averages")}
    found = File(models=content["models"], sources=content["sources"], **rows)
    check_type(found, File)
    return found


def published() -> tuple[PublishedFigure, ...]:
    """A figure for each task, metric, model and setting that public copies give; averages by their
    names in the suite."""
    file = published_file()
    return tuple(
        PublishedFigure(
            task=row.task,
            metric=row.metric,
            model=file.models[row.model],
            setting=setting,
            value=value / 100,
            source=file.sources[row.source],
            shots=row.shots if setting == "few" else None,
            doubt=row.doubt.get(setting, ""),
        )
        for row in (*file.figures, *file.averages)
        for setting, value in zip(SETTINGS, (row.zero, row.one, row.few), strict=True)
        if value is not None
    )
