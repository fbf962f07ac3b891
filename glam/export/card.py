"""The card of an exported model (`README.md`): what it is, what it was trained on and at what cost,
how well it does, and what it cannot do; all of it from what the run recorded.

Names of runs, domains and tasks are other people's text. What stands in the card is escaped, and
its metadata written by a YAML library, so that none of them is read as Markdown, HTML or YAML.
"""

import html
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import yaml
from jinja2 import ChainableUndefined, Environment, PackageLoader, Undefined
from markupsafe import Markup

from glam.config import RunConfig, ScaledExpertsConfig
from glam.data import EMBEDDED
from glam.runs.record import Json, Record, mapping
from glam.units import DASH, duration, fixed, in_message, is_number, percent, si, whole

MARKDOWN = re.compile(r"([\\`*_\[\]|~#$])")
UNKNOWN_LICENCE = "not known to glam"


class Score(NamedTuple):
    """A task's score, and its interval where one was recorded."""

    suite: str
    task: str
    metric: str
    value: float
    low: Any
    high: Any
    chance: Any
    items: Any
    shots: Any


def model_card(config: RunConfig, record: Record) -> str:
    """The text of the card."""
    scores = list(_scores(record.part("tasks")))
    return _template().render(
        metadata=Markup(_metadata(config, record, scores)),
        model=config.model,
        config=config,
        record=record,
        summary=record.summary,
        parameters=record.part("parameters"),
        energy=record.part("energy"),
        loss=record.part("loss"),
        bits=record.part("bits_per_byte"),
        sources=_sources(config, record.data),
        origins=[each for each in record.data.get("origins", []) if each["origin"]],
        epochs=mapping(record.data.get("epochs")),
        scores=scores,
        scaled=config.task.expert_scale if isinstance(config.task, ScaledExpertsConfig) else [],
    )


def in_markdown(value: Any) -> str:
    """A value as text of a line: nothing in it is markup, and it does not end the line. A dash for
    what a run did not record."""
    if isinstance(value, Markup):
        return value
    if value is None or isinstance(value, Undefined):
        return DASH
    return MARKDOWN.sub(r"\\\1", html.escape(one_line(str(value)), quote=False))


def one_line(text: str) -> str:
    """Without what ends a line or is not seen."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


@cache
def _template() -> Any:
    environment: Any = Environment(  # whose filters have no types
        loader=PackageLoader("glam.export", "."),
        finalize=in_markdown,
        undefined=ChainableUndefined,  # a key that a run did not record
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    numbers = {"fixed": fixed, "whole": whole, "percent": percent, "si": si, "duration": duration}
    for name, written in numbers.items():
        environment.filters[name] = _plain_spaces(written)
    return environment.get_template("card.md.j2")


def _plain_spaces(written: Callable[..., str]) -> Callable[..., str]:
    """As `written`, with spaces that break: the card is read as it stands too."""

    def plain(*values: Any) -> str:
        return in_message(written(*values))

    return plain


def _sources(config: RunConfig, data: Json) -> list[Json]:
    """By source: what is trained on, or held out, and its licence."""
    licences: dict[str, str] = {}
    if config.data.corpus.name == "embedded":  # a run of glam 0.2 recorded none
        licences = {source.name: source.license for source in EMBEDDED}
    licences |= {each["name"]: each["license"] for each in data.get("origins", [])}
    rows = {(row["source"], row["step"]): row for row in data.get("funnel", [])}
    found: list[Json] = []
    for name in dict.fromkeys(source for source, _ in rows):
        kept, held_out = rows.get((name, "kept"), {}), rows.get((name, "held out"), {})
        found.append(
            {
                "name": name,
                "component": rows[name, "read"]["component"] if (name, "read") in rows else "",
                "documents": kept.get("documents"),
                "tokens": kept.get("tokens"),
                "held_out": held_out.get("documents"),
                "licence": licences.get(name) or UNKNOWN_LICENCE,
            }
        )
    return found


def _scores(tasks: Json) -> Iterator[Score]:
    for suite, found in tasks.items():
        for task, score in mapping(found).items():
            told = mapping(score)
            if is_number(value := told.get("value")):
                yield Score(
                    suite=suite,
                    task=task,
                    metric=str(told.get("metric", "")),
                    value=value,
                    low=told.get("low"),
                    high=told.get("high"),
                    chance=told.get("chance"),
                    items=told.get("items"),
                    shots=told.get("num_fewshot"),
                )


def _metadata(config: RunConfig, record: Record, scores: list[Score]) -> str:
    """What Hugging Face's hub reads at the top of a card."""
    loss = [
        _result(domain, "cross-entropy", value, "held-out loss, nats per token")
        for domain, value in record.part("loss").items()
    ]
    judged = [_result(score.task, score.metric, score.value, score.suite) for score in scores]
    said: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["glam", "mixture-of-experts", "custom_code"],
        "model-index": [{"name": one_line(record.name), "results": loss + judged}],
    }
    if config.data.corpus.name == "embedded":
        said["language"] = ["en"]
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=100)


def _result(dataset: str, metric: str, value: float, name: str) -> Json:
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": one_line(dataset), "type": one_line(dataset)},
        "metrics": [{"type": one_line(metric), "value": value, "name": one_line(name)}],
    }
