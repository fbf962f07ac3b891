import bz2
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from glam.data import readers

Write = Callable[[str, str], Path]

DUMP = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">
<page><title>Moved</title><ns>0</ns><revision><text>#REDIRECT [[Cat]]</text></revision></page>
<page><title>Talk:Cat</title><ns>1</ns><revision><text>chatter</text></revision></page>
<page><title>Cat</title><ns>0</ns><revision><text>{{Infobox|a=b}}
&lt;!-- write &lt;ref> here -->
'''Cats''' are [[animal|animals]].&lt;ref name="x"&gt;A book&lt;/ref&gt; They purr.

== Habits ==
[[File:Cat.jpg|thumb|A cat]]
They sleep.&lt;ref name="x" /&gt;

== References ==
* A book
</text></revision></page></mediawiki>"""


def test_wikipedia_gives_the_prose_of_articles_alone(tmp_path: Path) -> None:
    path = tmp_path / "dump.bz2"
    path.write_bytes(bz2.compress(DUMP.encode()))
    (text,) = readers.wikipedia([path])
    assert text.split() == ["Cats", "are", "animals.", "They", "purr.", "Habits", "They", "sleep."]


def test_scripture_has_a_document_a_book_and_no_verse_numbers(tmp_path: Path) -> None:
    path = tmp_path / "Bible.db"
    with closing(sqlite3.connect(path)) as base:
        base.execute(
            "CREATE TABLE Bible (TestamentID, BookID, ChapterID, VerseID, Passage1, Passage2)"
        )
        rows = [
            (2, 1, 1, 1, "1:1 The book of the generation.", ""),
            (
                1,
                1,
                1,
                3,
                "1:3 And God said, 1:4 Let there be light.",
                "And there was. 1:5 It was so.",
            ),
            (1, 1, 1, 1, "1:1 In the beginning.", ""),
        ]
        base.executemany("INSERT INTO Bible VALUES (?, ?, ?, ?, ?, ?)", rows)
        base.commit()
    assert list(readers.king_james([path])) == [
        "In the beginning.\nAnd God said, Let there be light. And there was. It was so.",
        "The book of the generation.",
    ]


def test_reviews_have_line_breaks_in_place_of_markup(write: Write) -> None:
    path = write("reviews.csv", 'text,label\n"One.<br /><br />Two, ""so to say"".",1\n')
    assert list(readers.movie_reviews([path])) == ['One.\n\nTwo, "so to say".']


def test_tweets_that_are_not_utf8_are_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "tweets.csv"
    path.write_bytes(b"sentiment,text\npositive,caf\xe9 &amp; cake\n")
    assert list(readers.tweets([path])) == ["caf\ufffd & cake"]


def test_a_conversation_has_a_line_a_turn_and_is_left_out_without_an_answer(write: Write) -> None:
    def turn(sender: str, *texts: str) -> list[dict[str, str]]:
        return [{"sender": sender, "text": text, "timestamp": ""} for text in texts]

    talks = [
        [turn("x", "Hello", " Anyone? "), turn("y", "a a a a"), turn("y", "AAAA", "Yes :)")],
        [turn("x", "Is this on?"), turn("x", "Well.")],
    ]
    path = write("dataset.json", json.dumps({i: {"messages": t} for i, t in enumerate(talks)}))
    assert list(readers.conversations([path])) == ["Hello Anyone?\nYes :)"]


def test_a_dictionary_has_a_line_a_sense_without_etymologies_and_notes(write: Write) -> None:
    def part(speech: str, text: str, *examples: str) -> dict[str, object]:
        meant = {"text": text, "examples": examples}
        return {"part_of_speech": speech, "definitions": [meant], "etymology": "[L. capra]"}

    entries = {
        "caper": [part("n.", "A  leap. [1913 Webster]", "To cut\na caper. Shak.1913 Webster]")],
        "capstan": [
            part("n.", "A drum<-- see winch -->; a cylinder{2}.") | {"cs": "Capstan bar, a lever."}
        ],
        "caprid": [part("a.", "Spoilt Ca*pri`d"), part("n.", "")],
        "cape": [part("n.", "A garment.") | {"cs": "Ca*pote`, spoilt too."}],
    }
    made = {word: {"entry": word, "pos": parts} for word, parts in entries.items()}
    path = write("words_C.json", json.dumps(made))
    assert list(readers.dictionary([path])) == [
        "caper, n. A leap. To cut a caper. Shak.\n"
        "capstan, n. A drum; a cylinder. Capstan bar, a lever.\n"
        "cape, n. A garment."
    ]


def test_a_page_of_a_dictionary_ends_when_it_is_full(write: Write) -> None:
    parts = [{"part_of_speech": "n.", "definitions": [{"text": "x" * 1500, "examples": []}]}]
    made = {word: {"entry": word, "pos": parts} for word in "abcd"}
    path = write("words_A.json", json.dumps(made))
    assert [page[0] + str(page.count("\n")) for page in readers.dictionary([path])] == ["a2", "d0"]
