"""Readers of the text inside packages: files in, documents out, nothing imported from them."""

import bz2
import csv
import html
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson

from glam.errors import UserError

_VERSE = re.compile(r"\s*\b\d+:\d+\s+")
_LINE_BREAK = re.compile(r"<br\s*/?>")
_SECTIONS_OF_LINKS = re.compile(
    r"^==\s*(See also|References|Notes|Footnotes|Citations|External links|Further reading|"
    r"Bibliography|Sources)\s*==\s*$",
    re.MULTILINE | re.IGNORECASE,
)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_REFERENCE = re.compile(r"<ref[^<>]*/>|<ref[^<>]*>.*?</ref>", re.DOTALL | re.IGNORECASE)
_LINK_LINE = re.compile(r"^(Category|File|Image):.*$", re.MULTILINE)
_HEADING = re.compile(r"^=+\s*(.*?)\s*=+\s*$", re.MULTILINE)
_BLANKS = re.compile(r"\n\s*\n\s*")
_ONE_LETTER = re.compile(r"\W*(\w)(?:\W*\1)*\W*", re.IGNORECASE)
_EDITORS_NOTE = re.compile(
    r" ?(?:<--.*?-->|\{\d+\}|\[?(?:1913 Webster|Webster 1913|WordNet|PJC)[^\]]{0,40}\])"
)
_DAMAGED = re.compile(r"[\\*`<>\ufffd]")
_PAGE = 4000  # [characters] of a dictionary, at least


def text_files(paths: Sequence[Path]) -> Iterator[str]:
    """One document a file."""
    for path in paths:
        yield path.read_text(encoding="utf-8")


def king_james(paths: Sequence[Path]) -> Iterator[str]:
    """One document a book, one line a verse, without verse numbers."""
    for path in paths:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as base:
            rows = base.execute(
                "SELECT TestamentID, BookID, Passage1, Passage2 FROM Bible "
                "ORDER BY TestamentID, BookID, ChapterID, VerseID"
            )
            for _, book in groupby(rows, key=lambda row: row[:2]):
                verses = (f"{first} {second}" for *_, first, second in book)
                yield "\n".join(_VERSE.sub(" ", verse).strip() for verse in verses)


def movie_reviews(paths: Sequence[Path]) -> Iterator[str]:
    """One document a review."""
    for path in paths:
        for text in _column(path):
            yield _LINE_BREAK.sub("\n", text)


def tweets(paths: Sequence[Path]) -> Iterator[str]:
    """One document a tweet."""
    for path in paths:
        for text in _column(path):
            yield html.unescape(text)


def _column(path: Path) -> Iterator[str]:
    # Some tweets are not UTF-8: a replacement character stands for what cannot be read.
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file):
            yield row["text"] or ""


def wikipedia(paths: Sequence[Path]) -> Iterator[str]:
    """One document an article of a MediaWiki dump: prose without markup, notes and link lists."""
    for path in paths:
        with bz2.open(path) as dump:
            for _, element in ElementTree.iterparse(dump):
                if element.tag.rpartition("}")[2] != "page":
                    continue
                found = {child.tag.rpartition("}")[2]: child.text for child in element.iter()}
                text = found.get("text") or ""
                if found.get("ns") == "0" and not text.lower().startswith("#redirect"):
                    yield _prose(text)
                element.clear()


def _prose(wikitext: str) -> str:
    try:
        import wikitextparser  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise UserError(
            "data.corpus.sources: wikipedia needs wikitextparser to strip its markup; "
            "pip install wikitextparser, or leave the source out"
        ) from error
    body = _REFERENCE.sub("", _COMMENT.sub("", wikitext))
    body = _SECTIONS_OF_LINKS.split(body, maxsplit=1)[0]
    text = wikitextparser.parse(body).plain_text()
    text = _HEADING.sub(r"\1", _LINK_LINE.sub("", text))
    return _BLANKS.sub("\n\n", text)


def conversations(paths: Sequence[Path]) -> Iterator[str]:
    """One document a conversation that both sides took part in, one line a turn, without what is a
    single letter over and over."""
    for path in paths:
        for conversation in orjson.loads(path.read_bytes()).values():
            turns = conversation["messages"]
            if len({message["sender"] for turn in turns for message in turn}) > 1:
                yield "\n".join(filter(None, map(_turn, turns)))


def _turn(messages: Sequence[dict[str, str]]) -> str:
    texts = (message["text"].strip() for message in messages)
    return " ".join(text for text in texts if not _ONE_LETTER.fullmatch(text))


def dictionary(paths: Sequence[Path]) -> Iterator[str]:
    """One document a page, one line a word and part of speech: definitions, examples and phrases.
    Left out are etymologies, which stand beside the wrong words, and editors' notes."""
    for path in paths:
        page, size = list[str](), 0
        for line in _senses(orjson.loads(path.read_bytes()).values()):
            page.append(line)
            size += len(line)
            if size >= _PAGE:
                yield "\n".join(page)
                page, size = [], 0
        if page:
            yield "\n".join(page)


def _senses(entries: Iterable[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        for part in entry["pos"]:
            texts = [
                text for each in part["definitions"] for text in (each["text"], *each["examples"])
            ]
            line = _without_notes(f"{entry['entry']}, {part['part_of_speech']}", *texts)
            phrases = _without_notes(part.get("cs") or "")
            if any(texts) and not _DAMAGED.search(line):
                yield line if _DAMAGED.search(phrases) else f"{line} {phrases}".strip()


def _without_notes(*texts: str) -> str:
    text = " ".join(" ".join(texts).split())
    has_notes = any(end in text for end in "]}>")  # looked for first: notes are rare
    return _EDITORS_NOTE.sub("", text).strip() if has_notes else text
