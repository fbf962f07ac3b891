"""An item of a task as running text, so that it can be looked for in training text."""
# lm-eval has types in part, and no stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

LONG = 8  # words of a field that says enough by itself
MOST = 0.5  # of the words that are asked, that shorter fields have to give


def stretches(document: Any, asked: str) -> tuple[str, ...]:
    """Stretches of running text of a document of a data set, of which `asked` was made: those of
    its fields that stand in it, so that the words of a template are none of an item's; `asked`
    itself where it was made of parts of them."""
    fields = sorted({leaf for leaf in _leaves(document) if leaf in asked}, key=len, reverse=True)
    chosen: list[str] = []
    for field in fields:
        if not any(field in longer for longer in chosen):
            chosen.append(field)
    words = [_words(field) for field in chosen]
    if max(words, default=0) >= LONG or sum(words) >= MOST * _words(asked):
        return tuple(sorted(chosen, key=asked.index))
    return (asked,)


def right(task: Any, document: Any) -> str:
    """The prompt of one of lm-eval's tasks with the right answer behind it."""
    prompt, answer = task.doc_to_text(document), task.doc_to_target(document)
    choices = cast(Sequence[Any], task.doc_to_choice(document)) if _has_choices(task) else ()
    return " ".join(_text(one, choices) for one in (prompt, answer))


def _has_choices(task: Any) -> bool:
    return task.config.doc_to_choice is not None


def _text(value: Any, choices: Sequence[Any]) -> str:
    """Of a prompt or an answer: itself, the first of several that are right, or a choice by its
    number."""
    if isinstance(value, list):
        return _text(value[0], choices) if value else ""
    if isinstance(value, int) and 0 <= value < len(choices):
        return str(choices[value])
    return str(value)


def _leaves(value: Any) -> Iterator[str]:
    """The texts in a document, at any depth."""
    if isinstance(value, str):
        if text := value.strip():
            yield text
    elif isinstance(value, Mapping):
        for part in cast(Mapping[str, Any], value).values():
            yield from _leaves(part)
    elif isinstance(value, (list, tuple)):
        for part in cast(Sequence[Any], value):
            yield from _leaves(part)


def _words(text: str) -> int:
    return len(text.split())
