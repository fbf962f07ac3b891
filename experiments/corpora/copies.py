"""Near copies of a text with a wanted Jaccard similarity of its word 5-grams."""

import random
import re

NGRAM = 5
_NO_WORD = re.compile(r"[^\w\s]|_")
_FOOTERS = (
    "Posted on {year} by {user}. Share this page with friends and subscribe to our newsletter.",
    "Copyright {year} {user}. All rights reserved. Terms of use and privacy policy apply.",
    "Read more of {user} here. Last updated {year}.",
)


def near_copy(text: str, jaccard: float, other: str, draw: random.Random) -> tuple[str, str]:
    """A copy whose 5-grams have about this Jaccard similarity with the text's, and how it was made:
    single words replaced, a passage left out, one of `other` put in, or a footer added."""
    how = draw.choice(("words", "words", "cut", "insert", "footer"))
    words = text.split(" ")
    if how == "words":
        # A word on its own changes five 5-grams: (n - 5 k) / (n + 5 k) of them are shared.
        changes = round(len(words) * (1 - jaccard) / (1 + jaccard) / NGRAM)
        step = len(words) / max(1, changes)
        for index in range(changes):
            at = min(len(words) - 1, int((index + draw.random() * 0.2) * step))
            words[at] = f"w{draw.randint(0, 10**6)}"
    elif how == "cut":
        count = round(len(words) * (1 - jaccard))
        at = draw.randint(0, len(words) - count)
        words = words[:at] + words[at + count :]
    elif how == "insert":
        count = round(len(words) * (1 / jaccard - 1))
        at = draw.randint(0, len(words))
        words = words[:at] + other.split(" ")[:count] + words[at:]
    else:
        footer = draw.choice(_FOOTERS).format(
            year=draw.randint(1990, 2026), user=f"user{draw.randint(1, 10**6)}"
        )
        words = [*words, "\n" + footer] if draw.random() < 0.6 else [footer + "\n", *words]
    return " ".join(words), how


def jaccard(first: str, second: str) -> float:
    """Jaccard similarity of the sets of word 5-grams, by the sets themselves."""
    a, b = _shingles(first), _shingles(second)
    return len(a & b) / max(1, len(a | b))


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = _NO_WORD.sub(" ", text.lower()).split()
    return {tuple(words[at : at + NGRAM]) for at in range(max(1, len(words) - NGRAM + 1))}
