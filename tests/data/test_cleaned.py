"""Documents cleaned together are those cleaned one by one."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glam.data.cleaned import cleaned
from glam.data.hashing import document_hash
from glam.data.text import clean
from glam.kernels import switched_off

SPACES = "".join(filter(str.isspace, map(chr, range(0x110000))))
NEAR_SPACES = "\x08\x0e\u200b\u2010\u202a\u2060\u180e\ufeff\u0084\u0086\u0100\u3001\u1681"
LONGEST = max(map(chr, range(0xE000, 0x110000)), key=lambda c: len(c.casefold().encode()))
CHARACTERS = (
    st.sampled_from(SPACES + NEAR_SPACES + "\r\n\t\x00\x7f\xc2\ud800aZßİΣΐé日𝔘" + LONGEST)
    | st.characters(codec="ascii")
    | st.characters(codec=None)
)
# Runs of ASCII, so that whole blocks of the kernel are met, at every place of their beginning.
RUNS = st.text(st.sampled_from("abcXYZ .\n"), min_size=20, max_size=90)
TEXTS = st.lists(st.lists(st.text(CHARACTERS, max_size=9) | RUNS, max_size=5).map("".join))


def check(texts: Sequence[str]) -> None:
    documents, kept, replaced = cleaned(texts)
    expected = [clean(text) for text in texts]
    assert kept.tolist() == [place for place, text in enumerate(expected) if text]
    expected = [text for text in expected if text]
    assert documents.texts.to_pylist() == expected
    assert documents.hashes.tolist() == [document_hash(text) for text in expected]
    assert documents.characters.tolist() == [len(text) for text in expected]
    assert documents.num_bytes.tolist() == [len(text.encode()) for text in expected]
    lone = sum(0xD800 <= ord(character) < 0xE000 for text in texts for character in text)
    assert replaced.total() == lone


@given(TEXTS)
def test_texts_cleaned_together_are_those_cleaned_one_by_one(texts: list[str]) -> None:
    check(texts)
    with switched_off():
        check(texts)


def test_every_character_is_folded_as_python_does() -> None:
    check(["".join(map(chr, range(0xD800))) + "".join(map(chr, range(0xE000, 0x110000)))])


def test_documents_are_chosen_by_place() -> None:
    documents, _, _ = cleaned(["one", "two", "drei ß", "four"])
    for chosen in (documents.at(slice(1, 3)), documents.at(documents.num_bytes.argsort()[2:0:-1])):
        assert sorted(chosen.hashes) == sorted(map(document_hash, chosen.texts.to_pylist()))
        assert len(chosen) == 2


@pytest.mark.parametrize("texts", [[], [""], [" \n", "\x00"]])
def test_of_no_text_there_is_no_document(texts: list[str]) -> None:
    documents, kept, _ = cleaned(texts)
    assert len(documents) == len(kept) == len(documents.texts) == 0
