"""Held-out documents cut into what items are made of: stretches of words, and sentences."""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, TypeVar

# Words before, which the model is shown, and after, which it judges. Of a domain of short
# documents, as tweets, the longest that it has enough of.
SIZES = ((20, 10), (12, 6), (8, 4))
SHORTEST, LONGEST = 30, 160  # characters of a sentence
_ENDS = (re.compile(r"(?<=[.!?])\s+"), re.compile(r"(?<=[.!?;:])\s+"))


class OfDocument(Protocol):
    """Something that was cut out of a document."""

    @property
    def document(self) -> int: ...


P = TypeVar("P", bound=OfDocument)


class Stretch(NamedTuple):
    """Words that follow one another, as two strings; the second begins with its space."""

    document: int
    before: str
    after: str


class Place(NamedTuple):
    """The word number `at` of a document."""

    document: int
    at: int


class Sentence(NamedTuple):
    """A sentence that stands on one line."""

    document: int
    text: str


@dataclass(frozen=True)
class Domain:
    """The held-out documents of a domain."""

    name: str
    documents: Sequence[str]

    def random(self, form: str) -> random.Random:
        """A generator for one form of item: what other domains and forms draw changes nothing."""
        return random.Random(f"{form}/{self.name}")

    @cached_property
    def words(self) -> list[list[str]]:
        """The words of each document, as white space parts them."""
        return [text.split() for text in self.documents]

    def stretches(self, wanted: int) -> list[Stretch]:
        """All stretches of one size, none of which overlap: the longest size of which there are
        `wanted`, or else the size with the most."""
        found: list[Stretch] = []
        for size in SIZES:
            mine = list(self._of_size(*size))
            found = mine if len(mine) > len(found) else found
            if len(found) >= wanted:
                break
        return found

    def _of_size(self, before: int, after: int) -> Iterator[Stretch]:
        for document, words in enumerate(self.words):
            for start in range(0, len(words) - before - after + 1, before + after):
                middle, end = start + before, start + before + after
                yield Stretch(
                    document,
                    " ".join(words[start:middle]),
                    " " + " ".join(words[middle:end]),
                )

    def places(self, first: int) -> list[Place]:
        """Every word that at least `first` others stand before."""
        return [
            Place(document, at)
            for document, words in enumerate(self.words)
            for at in range(first, len(words))
        ]

    def before(self, place: Place, count: int) -> str:
        """The `count` words before a place."""
        words = self.words[place.document]
        return " ".join(words[place.at - count : place.at])

    @cached_property
    def sentences(self) -> list[Sentence]:
        """Whole sentences of middling length; in text of long sentences, as scripture, their parts
        at a colon or semicolon too."""
        whole, parts = (list(self._sentences(ends)) for ends in _ENDS)
        return whole if 2 * len(whole) >= len(parts) else parts

    def _sentences(self, ends: re.Pattern[str]) -> Iterator[Sentence]:
        for document, text in enumerate(self.documents):
            for found in ends.split(text):
                sentence = found.strip()
                if _is_sentence(sentence):
                    yield Sentence(document, sentence)


def _is_sentence(text: str) -> bool:
    return SHORTEST <= len(text) <= LONGEST and text[0].isupper() and text.isprintable()


def spread(found: Sequence[P], count: int, draws: random.Random) -> list[P]:
    """`count` of them by chance, from as many documents as there are: items of one document are
    not independent of each other."""
    shuffled = list(found)
    draws.shuffle(shuffled)
    seen: Counter[int] = Counter()
    ranked: list[tuple[int, P]] = []
    for one in shuffled:
        ranked.append((seen[one.document], one))
        seen[one.document] += 1
    ranked.sort(key=lambda pair: pair[0])
    return [one for _, one in ranked[:count]]
