"""Effects with their intervals, and what they say of a claim."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from experiments.equal_loss import geometric
from glam.analysis.paired import interval
from glam.units import fixed, signed

Good = Literal["lower", "higher", "either"]
YES, NO, OPEN = "yes", "no", "not told apart"


class Effect(NamedTuple):
    """A difference or a ratio over paired seeds, and its 95 % interval (nan of one seed)."""

    middle: float
    low: float
    high: float
    none: float = 0.0  # what it is where there is no effect

    @classmethod
    def of(cls, differences: Sequence[float]) -> "Effect":
        low, high = interval(differences) or (math.nan, math.nan)
        return cls(float(np.mean(differences)), low, high)

    @classmethod
    def of_ratios(cls, ratios: Sequence[float]) -> "Effect":
        return cls(*geometric(ratios), none=1.0)

    def verdict(self, good: Good = "lower") -> str:
        """Of the claim that it is lower than no effect, higher, or another."""
        below, above = self.high < self.none, self.low > self.none
        if not (below or above):
            return OPEN
        return YES if good == "either" or (good == "lower") == below else NO

    def told(self, digits: int = 3) -> str:
        write = fixed if self.none else signed
        numbers = [write(one, digits) for one in self[:3]]
        if math.isnan(self.low):
            return f"{numbers[0]} (one seed, no interval)"
        return f"{numbers[0]} ({numbers[1]} to {numbers[2]})"


class Claim(NamedTuple):
    """What a study found of its claim: the word, and the effect in a sentence."""

    word: str
    sentence: str

    def __str__(self) -> str:
        return f"**{self.word}.** {self.sentence}".rstrip()


def answer(
    what: str,
    effects: Mapping[str, Effect],
    *,
    good: Good = "lower",
    digits: int = 3,
    after: str = "",
) -> Claim:
    """`what` says of what the effects are; each has its label, which may be empty where it is the
    only one."""
    found = {label: effect.verdict(good) for label, effect in effects.items()}
    each = ", ".join(f"{label} {one.told(digits)}".strip() for label, one in effects.items())
    return Claim(verdict(found), f"{what}: {each}{after}.")


def verdict(found: Mapping[str, str]) -> str:
    """`Yes`; or `Yes for 16 experts, not told apart for 64 experts`."""
    words = [word for word in (YES, OPEN, NO) if word in found.values()]
    if len(words) == 1:
        return words[0].capitalize()
    parts = [
        f"{word} for {listed(label for label, one in found.items() if one == word)}"
        for word in words
    ]
    return sentence(", ".join(parts))


def sentence(text: str) -> str:
    """With a capital, and the rest as it is."""
    return text[:1].upper() + text[1:]


def listed(words: Iterable[str], last: str = "and") -> str:
    """`a, b and c`."""
    *first, end = words
    return f"{', '.join(first)} {last} {end}" if first else end


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
