import re

from hypothesis import given
from hypothesis import strategies as st

from glam.data.text import clean, pages, reserved_in

PROSE = st.lists(st.text("ab", min_size=1, max_size=9), max_size=80).map(" ".join)


@given(PROSE, st.integers(10, 50))
def test_pages_hold_every_word_in_order_and_keep_to_the_limit(text: str, limit: int) -> None:
    cut = list(pages(text, limit))
    assert " ".join(cut).split() == text.split()
    assert all(0 < len(page) <= limit for page in cut)


@given(st.text(max_size=300), st.integers(1, 20))
def test_no_page_is_blank_or_too_long_whatever_the_text(text: str, limit: int) -> None:
    cut = list(pages(text, limit))
    assert all(page.strip() and len(page) <= limit for page in cut)
    assert "".join("".join(cut).split()) == "".join(text.split())


def test_no_crumb_is_left_at_the_end() -> None:
    lengths = [len(page) for page in pages("word " * 250, 1200)]
    assert len(lengths) == 2
    assert max(lengths) - min(lengths) <= 10


@given(st.text(st.characters(codec=None), max_size=200))
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert clean(clean(text)) == clean(text)


CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
ODD = st.sampled_from("\r\n\t \x00\x1c\x7f\x80\x85\x9f\xa0\xc2\ud800\udfff\u2581\u2028é日")


@given(st.text(ODD | st.characters(codec=None), max_size=60))
def test_control_characters_are_spaces_whatever_stands_beside_them(text: str) -> None:
    slow = CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))
    assert clean(text) == slow.encode("utf-8", "replace").decode().strip()
    count = sum(0xD800 <= ord(character) < 0xE000 for character in text)
    assert sum(reserved_in(text).values()) == count


def test_a_lone_surrogate_and_control_characters_are_replaced() -> None:
    assert clean("a\ud800b\x00c\r\nd\u2581e\t") == "a?b c\nd\u2581e"


def test_what_is_replaced_of_what_is_seen_is_counted() -> None:
    assert reserved_in("plain \u2585 \u2581 text\t") == {}
    assert reserved_in("a\ud801b \ud800") == {"lone surrogates by ?": 2}
