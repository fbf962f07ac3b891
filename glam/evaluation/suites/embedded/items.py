"""The items of all six forms, made once for a text and kept in the data cache beside it."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from glam.data import Texts
from glam.data.contamination import EvaluationItem, EvaluationItems
from glam.evaluation.suites.embedded.forms import (
    CHOICES,
    Counts,
    Item,
    agreement,
    completion,
    continuation,
    count_words,
    last_word,
    right_domain,
    swapped,
)
from glam.evaluation.suites.embedded.stretches import Domain
from glam.files import read_json, strict
from glam.progress import stage

VERSION = 1  # of all that decides an item
ITEMS = 300  # of a form, dealt evenly to the domains
LEAST = 40  # of a form: fewer tell no model from chance
HELD_OUT_DOCUMENTS, HELD_OUT_CHARACTERS = 2_000, 500_000  # of a domain, that items are made of
TRAINING_CHARACTERS = 20_000_000  # that words are counted in
_FILE = "items.json"


@strict()
@dataclass(frozen=True)
class Items:
    """Items by task; and of each task that could not be made, why: one clause."""

    tasks: dict[str, list[Item]]
    missing: dict[str, str]


def cached_items(texts: Texts) -> Items:
    """The items of a text: made where the cache does not have them, which takes ten seconds."""

    def build(folder: Path) -> None:
        with stage("making tasks of held-out text"):
            found = make_items(texts)
        (folder / _FILE).write_text(json.dumps(asdict(found)), encoding="utf-8")

    folder = texts.cache.stage("tasks", _inputs(texts), build)
    return read_json(folder / _FILE, Items, way_out="remove it, and it is made again")


def _inputs(texts: Texts) -> dict[str, object]:
    """All that decides the items."""
    sizes = [ITEMS, LEAST, HELD_OUT_DOCUMENTS, HELD_OUT_CHARACTERS, TRAINING_CHARACTERS]
    return {"version": VERSION, "text": texts.key, "sizes": sizes}


def evaluation_items(suite: str, texts: Texts) -> EvaluationItems:
    """The items with their right answers, as text."""

    def load() -> Iterator[EvaluationItem]:
        for task, items in cached_items(texts).tasks.items():
            for number, item in enumerate(items):
                yield EvaluationItem(task, number, (item.context + item.choices[item.answer],))

    return EvaluationItems(suite, _inputs(texts), load)


def make_items(texts: Texts) -> Items:
    """Items of every form that the text has enough of."""
    held_out = texts.held_out(HELD_OUT_CHARACTERS, HELD_OUT_DOCUMENTS)
    domains = [Domain(name, documents) for name, documents in held_out.items()]
    counts = count_words(domains, texts.training(TRAINING_CHARACTERS))
    found = {name: form(domains, counts)[:ITEMS] for name, form in FORMS.items()}
    missing = {
        name: _why(name, len(items), len(domains))
        for name, items in found.items()
        if len(items) < LEAST
    }
    return Items({name: found[name] for name in found if name not in missing}, missing)


def _why(name: str, count: int, domains: int) -> str:
    if name == "domain" and domains < CHOICES:
        return f"it needs {CHOICES} domains of held-out text, here are {domains}"
    return f"held-out text gives {count} items of it, of {LEAST} that it needs"


Form = Callable[[Sequence[Domain], Counts], list[Item]]


def _by_domain(form: Callable[[Domain, int, Counts], Iterator[Item]]) -> Form:
    """A form that looks at one domain at a time."""

    def every(domains: Sequence[Domain], counts: Counts) -> list[Item]:
        share = _share(domains)
        return [item for domain in domains for item in form(domain, share, counts)]

    return every


def _share(domains: Sequence[Domain]) -> int:
    """Items of each domain, two at least: agreement has two directions."""
    return max(2, ITEMS // max(1, len(domains)))


# By the names of their tasks, in the order of the table.
FORMS: dict[str, Form] = {
    "continuation": _by_domain(lambda domain, count, _: continuation(domain, count)),
    "domain": lambda domains, _: list(right_domain(domains, _share(domains))),
    "last_word": _by_domain(last_word),
    "word_order": _by_domain(lambda domain, count, _: swapped(domain, count)),
    "agreement": _by_domain(lambda domain, count, _: agreement(domain, count)),
    "completion": _by_domain(completion),
}


def chance(items: Sequence[Item]) -> float:
    """The share that guessing gets right: of several choices one; of none, the commonest answer,
    for whoever writes the same word each time."""
    if len(items[0].choices) > 1:
        return 1 / len(items[0].choices)
    answers = Counter(item.choices[0] for item in items)
    return answers.most_common(1)[0][1] / len(items)
