"""How a written answer is held against the right ones: the rules of each benchmark's own scorer."""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = set(string.punctuation)
Score = Callable[[str, str], float]


def normalize(text: str) -> str:
    """SQuAD's rule: lower case, without punctuation, articles and spaces beyond one."""
    letters = "".join(letter for letter in text.lower() if letter not in PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", letters).split())


def normalize_trivia(text: str) -> str:
    """TriviaQA's rule: as SQuAD's, but punctuation and underscores become spaces."""
    marks = PUNCTUATION | set("‘’´`")
    letters = "".join(" " if letter in marks else letter for letter in text.lower())
    return " ".join(ARTICLES.sub(" ", letters).split())


def exact(answer: str, right: str) -> float:
    """1.0 where both are the same by SQuAD's rule."""
    return float(normalize(answer) == normalize(right))


def exact_trivia(answer: str, right: str) -> float:
    """1.0 where both are the same by TriviaQA's rule."""
    return float(normalize_trivia(answer) == normalize_trivia(right))


def f1(answer: str, right: str) -> float:
    """F1 of the words that both have, by SQuAD's rule. No words at all equal only no words."""
    ours, theirs = normalize(answer).split(), normalize(right).split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs))


def best(score: Score, answer: str, right: Iterable[str]) -> float:
    """The score against the right answer that is nearest."""
    return max(score(answer, one) for one in right)


def leave_one_out(score: Score, answer: str, right: Sequence[str]) -> float:
    """CoQA's and QuAC's rule: the mean over the references, each left out once, of the score
    against the nearest of the others. So a model is judged as each of the references can be."""
    if len(right) == 1:
        return score(answer, right[0])
    others = ([*right[:n], *right[n + 1 :]] for n in range(len(right)))
    return sum(best(score, answer, some) for some in others) / len(right)


def agreement(right: Sequence[str]) -> float:
    """F1 of the references among each other: what QuAC's scorer calls human F1."""
    if len(right) == 1:
        return 1.0
    others = ((right[n], [*right[:n], *right[n + 1 :]]) for n in range(len(right)))
    return sum(best(f1, one, some) for one, some in others) / len(right)


def drop(answer: Sequence[str], right: Sequence[str]) -> tuple[float, float]:
    """DROP's exact match and F1 of the spans of an answer against those of a right one."""
    ours, theirs = [_drop_words(one) for one in answer], [_drop_words(one) for one in right]
    same = sorted(" ".join(one) for one in ours) == sorted(" ".join(one) for one in theirs)
    return float(same), round(_aligned([set(one) for one in ours], [set(one) for one in theirs]), 2)


def _aligned(ours: list[set[str]], theirs: list[set[str]]) -> float:
    """Mean F1 of spans, each paired with one of the other side so that the sum is greatest."""
    from scipy.optimize import linear_sum_assignment  # pyright: ignore

    table = np.array([[_bag_f1(one, other) for one in ours] for other in theirs])
    rows, columns = linear_sum_assignment(-table)  # pyright: ignore
    return float(table[rows, columns].sum()) / max(len(ours), len(theirs))


def _bag_f1(ours: set[str], theirs: set[str]) -> float:
    """0 where the right span has numbers and the answer has none of them."""
    numbers = {word for word in theirs if _is_number(word)}
    if numbers and not numbers & ours:
        return 0.0
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * len(ours & theirs) / (len(ours) + len(theirs))


def _drop_words(span: str) -> list[str]:
    """Words, split at spaces and hyphens; numbers in one form, articles left out."""
    return [word for part in re.split(" |-", span.lower()) for word in _drop_word(part).split()]


def _drop_word(word: str) -> str:
    if not _is_number(word):
        word = "".join(letter for letter in word if letter not in PUNCTUATION)
    word = str(float(word)) if _is_number(word) else word
    return ARTICLES.sub(" ", word)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
