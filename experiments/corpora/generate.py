"""Documents recombined from sentences of the embedded corpora. Each is a function of its number, so
that a corpus of any size takes constant memory and no document needs another to be made."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from experiments.corpora.copies import jaccard, near_copy
from glam.data.sources import EMBEDDED
from glam.data.text import clean

ITEMS, PLANTED = 1000, 500  # evaluation items, and those of them that stand in a page
LEAST = 0.5  # Jaccard similarity of a near copy with its page, about
MEAN_BYTES = 2350  # of a page, about
# Kinds of page and their shares: a source's sentences, or its whole tweets.
WEB = ("reviews",) * 15 + ("tweets",) * 2 + ("wikipedia",) * 2 + ("speeches",)
CURATED = ("speeches", "scripture")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True, kw_only=True)
class Page:
    """A web page, and what is known of it."""

    text: str
    genre: str
    kind: str  # original, exact or near (a copy of `origin`)
    origin: int
    how: str | None = None  # near: how it was changed
    jaccard: float | None = None  # near: with its origin, measured
    items: tuple[int, ...] = ()  # evaluation items that stand in it


@dataclass(frozen=True)
class Item:
    """A passage of a document that no page is made of."""

    source: str
    text: str


class Corpus:
    """Web pages and curated documents by number. Shares `exact` and `near` of the pages are copies
    of an earlier one; `megabytes` is what evaluation items are spread over."""

    def __init__(
        self, megabytes: float, seed: int = 0, exact: float = 0.10, near: float = 0.05
    ) -> None:
        self._seed, self._exact, self._near = seed, exact, near
        self._sentences, held = pools()
        self.items = _items(held)
        # Of every so many pages the first original carries an item, until all that are planted are.
        self._step = max(1, int(megabytes * 1e6 / MEAN_BYTES / PLANTED * 0.8))

    def page(self, index: int) -> Page:
        """Web page `index`: of its own, or a copy of an earlier one."""
        origin, kind = self._origin(index)
        genre, text, items = self._original(origin)
        if kind != "near":
            return Page(text=text, genre=genre, kind=kind, origin=origin, items=items)
        draw = self._draw("near", index)
        other = self._text(genre, self._draw("other", index))
        changed, how = near_copy(text, draw.uniform(LEAST, 1), other, draw)
        return Page(
            text=changed,
            genre=genre,
            kind=kind,
            origin=origin,
            how=how,
            jaccard=round(jaccard(text, changed), 4),
            items=items,
        )

    def curated(self, index: int) -> tuple[str, str]:
        """Genre and text of a curated document."""
        draw = self._draw("curated", index)
        genre = draw.choice(CURATED)
        return genre, self._text(genre, draw)

    def _origin(self, index: int) -> tuple[int, str]:
        """The original page that a page is, or is a copy of; and what it is."""
        kind, at = self._kind(index), index
        while self._kind(at) != "original":
            at = int(self._draw("origin", at).random() * at)
        return at, kind

    def _kind(self, index: int) -> str:
        drawn = self._draw("kind", index).random()
        if index == 0 or drawn >= self._exact + self._near:
            return "original"
        return "exact" if drawn < self._exact else "near"

    def _original(self, index: int) -> tuple[str, str, tuple[int, ...]]:
        draw = self._draw("page", index)
        genre = draw.choice(WEB)
        text = self._text(genre, draw)
        item, before = divmod(index, self._step)
        if item >= PLANTED or any(
            self._kind(index - back) == "original" for back in range(1, before + 1)
        ):
            return genre, text, ()
        cut = text.find(" ", len(text) // 3)
        return genre, f"{text[:cut]} {self.items[item].text}{text[cut:]}", (item,)

    def _text(self, genre: str, draw: random.Random) -> str:
        """Sentences at random, as long in all as pages of the web are: log-normally."""
        pool = self._sentences[genre]
        left = min(60_000, max(350, int(draw.lognormvariate(7.3, 0.9))))
        parts: list[str] = []
        while left > 0:
            parts.append(pool[int(draw.random() * len(pool))])
            left -= len(parts[-1]) + 1
            if genre != "tweets" and draw.random() < 0.12:
                parts.append("\n")
        return ("\n" if genre == "tweets" else " ").join(parts).replace(" \n ", "\n").strip()

    def _draw(self, purpose: str, index: int) -> random.Random:
        return random.Random(f"{purpose}/{self._seed}/{index}")


@cache
def pools() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """By source its sentences, and a tenth of its documents that no sentence is taken from."""
    sentences: dict[str, list[str]] = {}
    held: dict[str, list[str]] = {}
    for row in (row for row in EMBEDDED if row.name in {*WEB, *CURATED}):
        source = row.open()
        documents = list(dict.fromkeys(clean(str(text)) for text in source.reader(source.files)))
        random.Random(source.name).shuffle(documents)
        cut = max(1, len(documents) // 10)
        held[source.name] = documents[:cut]
        sentences[source.name] = [
            part
            for text in documents[cut:]
            for part in ([text] if source.name == "tweets" else _split(text))
            if len(part) >= 25
        ]
    return sentences, held


def _split(text: str) -> Iterator[str]:
    """Sentences, the longer than 300 characters in pieces."""
    for sentence in _SENTENCE.split(text):
        rest = sentence.strip()
        while len(rest) > 300:
            cut = rest.rfind(" ", 150, 300)
            cut = cut if cut > 0 else 300
            yield rest[:cut].strip()
            rest = rest[cut:].strip()
        yield rest


def _items(held: dict[str, list[str]]) -> list[Item]:
    draw = random.Random(99)
    found: list[Item] = []
    for _ in range(ITEMS):
        source = draw.choice(("reviews", "reviews", "wikipedia", "speeches"))
        words = draw.choice(held[source]).split()
        length = draw.randint(20, 120)
        at = draw.randint(0, max(0, len(words) - length))
        found.append(Item(source, " ".join(words[at : at + length])))
    return found
