"""The class of a token: what it is in the text, without a parser."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CLASSES = (
    "control", "byte", "space", "number", "punctuation", "function word", "capitalised word",
    "word", "continuation",
)  # fmt: skip
# English words of closed classes: articles, pronouns, prepositions, conjunctions, auxiliaries.
_WORDS = """
a about above after against all am an and any are as at be because been before being below
between both but by can could did do does down during each every few for from had has have he
her him his how i if in into is it its may me might more most must my no nor not of off on or
our out over shall she should so some such than that the their them then there these they this
those thou through thy to too under unto until up upon us was we were what when where which
while who whom whose why will with would you your
"""
FUNCTION_WORDS = frozenset(_WORDS.split())


def token_classes(pieces: Sequence[str]) -> NDArray[np.int64]:
    """The class of every token `[V]`, an index of CLASSES, from the tokenizer's pieces: a leading
    "▁" is the space before a word."""
    return np.array([CLASSES.index(token_class(piece)) for piece in pieces], np.int64)


def token_class(piece: str) -> str:
    """The name of a piece's class."""
    text = piece.replace("▁", " ")
    core = text.strip()
    if not piece or (core.startswith("<") and core.endswith(">") and len(core) > 2):
        return "byte" if core.startswith("<0x") else "control"
    if not core:
        return "space"
    if not any(letter.isalnum() for letter in core):
        return "punctuation"
    if not any(letter.isalpha() for letter in core):
        return "number"
    if text.startswith(" ") and core.lower() in FUNCTION_WORDS:
        return "function word"
    if core[0].isupper():
        return "capitalised word"
    return "word" if text.startswith(" ") else "continuation"
