"""Text of one genre, half of it spoilt: `python -m experiments.one_genre.corpus [folder]`.

The reviews of the embedded corpora in three files: a third is `reviews`, the curated text; of the
rest, the pool, half are `clean` and half are `spoilt`, each in one of three ways in which web text
is bad. Genre says nothing here, so what the filter finds is quality. The other domains are written
whole, to be evaluated on. Every choice is drawn by a document's hash: the same text, whoever writes
it.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from experiments.tables import refuse
from glam.config import EmbeddedCorpusConfig
from glam.data.hashing import document_hash, uniform
from glam.data.sources import resolve
from glam.progress import bar

FOLDER = Path("cache/one_genre")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
FOOTER = "Click here to sign up. All rights reserved. Share this page. Read more. Terms of use."
MISREAD = 0.15  # of the letters
SENTENCE = re.compile(r"(?<=[.!?])\s+")


def shuffled(text: str, rng: np.random.Generator) -> str:
    """Its words in any order: what a page made of keywords is."""
    return " ".join(rng.permutation(text.split()))


def misread(text: str, rng: np.random.Generator) -> str:
    """Some letters are others: a bad scan."""
    hit = rng.random(len(text)) < MISREAD
    drawn = rng.integers(0, len(LETTERS), len(text))
    return "".join(
        LETTERS[drawn[i]] if hit[i] and letter.isalpha() else letter
        for i, letter in enumerate(text)
    )


def buried(text: str, rng: np.random.Generator) -> str:
    """Every other sentence is the site's own words."""
    phrases = SENTENCE.split(FOOTER)
    kept = SENTENCE.split(text)[::2]
    return " ".join(f"{sentence} {phrases[rng.integers(len(phrases))]}" for sentence in kept)


WAYS: tuple[Callable[[str, np.random.Generator], str], ...] = (shuffled, misread, buried)

SOURCES = ("speeches", "scripture", "wikipedia", "reviews", "tweets")


def parts(documents: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each document with the file that it belongs to."""
    for text in documents:
        key = document_hash(text)
        [draw] = uniform(np.array([key], np.uint64), 0, "one genre")
        if draw < 1 / 3:
            yield "reviews", text
        elif draw < 2 / 3:
            yield "clean", text
        else:
            rng = np.random.default_rng(key)
            yield "spoilt", WAYS[rng.integers(len(WAYS))](text, rng)


def write(folder: Path) -> None:
    """Each domain as a `.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in resolve(EmbeddedCorpusConfig(sources=[*SOURCES])):
        documents = (text for text in source.reader(source.files) if isinstance(text, str))
        named = (
            parts(documents)
            if source.name == "reviews"
            else ((source.name, text) for text in documents)
        )
        lines: dict[str, list[str]] = {}
        with bar(f"write {source.name}", 1, "source") as running:
            for name, text in named:
                lines.setdefault(name, []).append(json.dumps({"text": text}) + "\n")
            running.advance()
        for name, its in lines.items():
            (folder / f"{name}.jsonl").write_text("".join(its), encoding="utf-8")
            print(f"{folder / f'{name}.jsonl'}: {len(its):,} documents")


if __name__ == "__main__":
    if any(word.startswith("-") for word in sys.argv[1:]) or len(sys.argv) > 2:
        refuse("usage: python -m experiments.one_genre.corpus [folder]")
    try:
        write(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
    except OSError as failed:
        refuse(f"{failed.filename}: {failed.strerror}; name a folder that can be written")
