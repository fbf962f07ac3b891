"""The six forms of items. They were chosen among more, by what tells a trained model of a few
million parameters from chance: sentence order and copying do not (docs/embedded-tasks.md).

A form gives as many items as it can make, at most the number wanted; a wrong choice differs from
the right one in what the form asks for, and in nothing that could be judged without it.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from glam.evaluation.suites.embedded.stretches import Domain, Place, Sentence, Stretch, spread
from glam.files import strict

CHOICES = 4
FREQUENT = 1000  # words of training text, the most frequent first, that a last word is one of
FUNCTION_WORDS = 20  # of them, which stand anywhere: they are left out
LIKE = 15  # ranks around a word whose words are of like frequency
LAST_WORD_AFTER, COMPLETION_AFTER = 15, 12  # [words] of context
OFTEN, SURE = 10, 0.7  # of a pair of words in training text, and of its successor after it
PER_PAIR, PER_ANSWER = 3, 20  # items of a domain that have one pair before them; parts in one word
PAIRS = (
    *(("is", "are"), ("was", "were"), ("has", "have"), ("does", "do")),
    *(("a", "an"), ("this", "these"), ("he", "him"), ("they", "them"), ("my", "me"), ("we", "us")),
)


@strict()
@dataclass(frozen=True)
class Item:
    """A question: which of `choices` follows `context`? Of one choice: does the model write it?"""

    domain: str
    document: int  # of its domain: items of one document are not independent
    context: str
    choices: list[str]
    answer: int


@dataclass(frozen=True)
class Counts:
    """What forms know of the training text: words of like frequency, and which pairs of words have
    one successor."""

    frequent: Sequence[str]  # the most frequent first
    successor: dict[tuple[str, str], str]


def continuation(domain: Domain, count: int) -> Iterator[Item]:
    """The true continuation of a stretch among those of others, of the same domain."""
    draws, found = domain.random("continuation"), domain.stretches(CHOICES * count)
    for one in spread(found, count, draws) if len(found) >= CHOICES else []:
        others = _others(found, one, draws)
        yield _shuffled(domain.name, one.document, one.before, [one.after, *others], draws)


def _others(found: Sequence[Stretch], one: Stretch, draws: random.Random) -> list[str]:
    drawn = draws.sample(range(len(found)), CHOICES)
    return [found[i].after for i in drawn if found[i] != one][: CHOICES - 1]


def right_domain(domains: Sequence[Domain], count: int) -> Iterator[Item]:
    """The true continuation of a stretch among stretches of three other domains."""
    cut = [(domain, domain.stretches(CHOICES * count)) for domain in domains]
    cut = [(domain, found) for domain, found in cut if found]
    if len(cut) < CHOICES:
        return
    for domain, found in cut:
        draws = domain.random("domain")
        elsewhere = [stretches for other, stretches in cut if other is not domain]
        for one in spread(found, count, draws):
            others = [draws.choice(each) for each in draws.sample(elsewhere, CHOICES - 1)]
            choices = [one.after, *(other.after for other in others)]
            yield _shuffled(domain.name, one.document, one.before, choices, draws)


def last_word(domain: Domain, count: int, counts: Counts) -> Iterator[Item]:
    """A frequent word of training text, after its context, among words of like frequency."""
    draws, words = domain.random("last word"), counts.frequent
    rank = {word: at for at, word in enumerate(words) if at >= FUNCTION_WORDS}
    places = [
        place
        for place in domain.places(LAST_WORD_AFTER)
        if domain.words[place.document][place.at] in rank
    ]
    for place in spread(places, count, draws):
        word = domain.words[place.document][place.at]
        first = max(FUNCTION_WORDS, rank[word] - LIKE)
        near = [other for other in words[first : rank[word] + LIKE + 1] if other != word]
        if len(near) >= CHOICES - 1:
            choices = [f" {one}" for one in (word, *draws.sample(near, CHOICES - 1))]
            context = domain.before(place, LAST_WORD_AFTER)
            yield _shuffled(domain.name, place.document, context, choices, draws)


def swapped(domain: Domain, count: int) -> Iterator[Item]:
    """A sentence, and the same with two neighbouring words changed over."""
    draws = domain.random("swapped")
    able = [one for one in domain.sentences if _swappable(one.text.split())]
    for one in spread(able, count, draws):
        words = one.text.split()
        at = draws.choice(_swappable(words))
        wrong = [*words[:at], words[at + 1], words[at], *words[at + 2 :]]
        yield _shuffled(domain.name, one.document, "", [" ".join(words), " ".join(wrong)], draws)


def _swappable(words: Sequence[str]) -> list[int]:
    """Words within a sentence that can change places with the next one: neither its first, whose
    letter is a capital, nor its last, nor beside punctuation."""
    return [
        at
        for at in range(1, len(words) - 2)
        if words[at].isalpha()
        and words[at + 1].isalpha()
        and words[at].lower() != words[at + 1].lower()
    ]


def agreement(domain: Domain, count: int) -> Iterator[Item]:
    """A sentence, and the same with one word in another form. Of each pair both directions are
    equally many, so that preferring one word earns nothing."""
    draws = domain.random("agreement")
    found: dict[tuple[str, str], list[_Changed]] = {
        (right, wrong): [] for a, b in PAIRS for right, wrong in ((a, b), (b, a))
    }
    for one in domain.sentences:
        for right, wrong in found:
            for match in re.finditer(rf"(?<= ){right}(?= )", one.text):
                changed = one.text[: match.start()] + wrong + one.text[match.end() :]
                found[right, wrong].append(_Changed(one.document, one, changed))
    for (a, b), number in _shares(found, count // 2).items():
        for direction in ((a, b), (b, a)):
            for changed in spread(found[direction], number, draws):
                choices = [changed.sentence.text, changed.wrong]
                yield _shuffled(domain.name, changed.document, "", choices, draws)


@dataclass(frozen=True)
class _Changed:
    document: int
    sentence: Sentence
    wrong: str


def _shares(found: dict[tuple[str, str], list[_Changed]], count: int) -> dict[tuple[str, str], int]:
    """How many of each pair, in each direction: dealt in turn, until `count` or none is left."""
    left = {(a, b): min(len(found[a, b]), len(found[b, a])) for a, b in PAIRS}
    shares = dict.fromkeys(left, 0)
    while sum(shares.values()) < count and any(left[pair] > shares[pair] for pair in left):
        for pair in left:
            if left[pair] > shares[pair] and sum(shares.values()) < count:
                shares[pair] += 1
    return shares


def completion(domain: Domain, count: int, counts: Counts) -> Iterator[Item]:
    """A word that training text sets the model up for: its two predecessors mostly have this
    successor there. Chosen by counts, never by a model. No word is the answer of many items."""
    draws = domain.random("completion")
    places = [p for p in domain.places(COMPLETION_AFTER) if _is_sure(domain.words, p, counts)]
    pairs, answers = Counter[tuple[str, str]](), Counter[str]()
    most = max(1, count // PER_ANSWER)
    made = 0
    for place in spread(places, len(places), draws):
        first, second, word = domain.words[place.document][place.at - 2 : place.at + 1]
        if pairs[first, second] < PER_PAIR and answers[word] < most and made < count:
            pairs[first, second] += 1
            answers[word] += 1
            made += 1
            context = domain.before(place, COMPLETION_AFTER)
            yield Item(domain.name, place.document, context, [f" {word}"], 0)


def _is_sure(words: Sequence[Sequence[str]], place: Place, counts: Counts) -> bool:
    first, second, word = words[place.document][place.at - 2 : place.at + 1]
    return counts.successor.get((first, second)) == word


def _shuffled(
    domain: str, document: int, context: str, choices: Sequence[str], draws: random.Random
) -> Item:
    """An item whose right choice, the first, comes to stand anywhere."""
    order = list(range(len(choices)))
    draws.shuffle(order)
    return Item(domain, document, context, [choices[i] for i in order], order.index(0))


def count_words(domains: Sequence[Domain], training: Iterator[str]) -> Counts:
    """From one pass over the training text. Of pairs only those that held-out text has."""
    wanted: set[tuple[str, str]] = set()
    triples: set[tuple[str, str, str]] = set()
    for domain in domains:
        for words in domain.words:
            wanted.update(pairwise(words))
            triples.update(zip(words, words[1:], words[2:], strict=False))
    singles, pairs = Counter[str](), Counter[tuple[str, str]]()
    follows = Counter[tuple[str, str, str]]()
    for text in training:
        words = text.split()
        singles.update(words)
        pairs.update(pair for pair in pairwise(words) if pair in wanted)
        follows.update(
            three for three in zip(words, words[1:], words[2:], strict=False) if three in triples
        )
    plain = ((word, n) for word, n in singles.most_common() if _is_plain(word))
    return Counts(
        [word for word, _ in plain][:FREQUENT],
        {
            (first, second): word
            for (first, second, word), n in follows.items()
            if pairs[first, second] >= OFTEN and n > SURE * pairs[first, second]
        },
    )


def _is_plain(word: str) -> bool:
    return len(word) >= 3 and word.isalpha() and word.islower()
