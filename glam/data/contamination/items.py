"""Evaluation sets as text: what is looked for in the training text."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from glam.data.hashing import digest


class EvaluationItem(NamedTuple):
    """A question of a task with its right answer, or a held-out document. No n-gram goes from one
    of its `stretches` of running text into the next."""

    task: str
    number: int  # within its task, from 0
    stretches: tuple[str, ...]


@dataclass(frozen=True)
class EvaluationItems:
    """The items of a suite, task by task, each in the order of its numbers. `key` is any JSON value
    that is equal for equal items alone: with it, what is cached is found without reading them."""

    suite: str
    key: Any
    load: Callable[[], Iterable[EvaluationItem]]

    @classmethod
    def of(cls, suite: str, items: Iterable[EvaluationItem]) -> "EvaluationItems":
        """Items at hand, named by their content."""
        found = list(items)
        return cls(suite, digest([list(one) for one in found]), lambda: found)
