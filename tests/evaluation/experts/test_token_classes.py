"""A piece's class, from how it is written."""

import pytest

from glam.evaluation.experts.token_classes import CLASSES, token_class, token_classes


@pytest.mark.parametrize(
    ("piece", "name"),
    [
        ("", "control"), ("<s>", "control"), ("<0x0A>", "byte"), ("\n", "space"), ("▁", "space"),
        ("▁19", "number"), (",", "punctuation"), ("▁(", "punctuation"), ("<", "punctuation"),
        ("▁the", "function word"), ("▁The", "function word"), ("the", "continuation"),
        ("▁God", "capitalised word"), ("God", "capitalised word"), ("▁war", "word"),
        ("ing", "continuation"), ("▁été", "word"), ("▁x2", "word"),
    ],
)  # fmt: skip
def test_the_class_of_a_piece(piece, name):
    assert token_class(piece) == name


def test_of_a_vocabulary_it_is_an_index_a_token():
    assert [CLASSES[i] for i in token_classes(["▁a", "9"])] == ["function word", "number"]
