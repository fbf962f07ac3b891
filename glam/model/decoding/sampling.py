"""Draws the next token from logits: greedily, or from the nucleus."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from glam.errors import UserError


class Sampling(NamedTuple):
    """Temperature 0 takes the likeliest token. Otherwise a token is drawn from the nucleus, the
    fewest likeliest tokens whose probabilities reach `top_p` (arXiv 1904.09751). Text number i is
    drawn by the seed `seed + i`, whatever batch it is in."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


GREEDY = Sampling()


class UselessWeightsError(UserError):
    """Logits are NaN or Inf: no token can be drawn by them."""

    def __init__(self) -> None:
        super().__init__(
            "the model gives NaN or Inf in place of probabilities: its run diverged; "
            "train another, with a lower optimizer.learning_rate"
        )


def check(logits: Tensor) -> None:
    """Raises UselessWeightsError where logits are NaN or Inf."""
    if not math.isfinite(float(logits.sum())):
        raise UselessWeightsError


class Sampler:
    """Chooses the next token of every text, each by a generator of its own."""

    def __init__(self, sampling: Sampling, texts: int) -> None:
        self.sampling = sampling
        self.numbers = [uniform_numbers(sampling.seed + text) for text in range(texts)]

    def tokens(self, logits: Float[Tensor, "B V"], texts: Sequence[int]) -> list[int]:
        """The next tokens of the texts of these numbers, by the logits of each. Raises
        UselessWeightsError where logits are NaN or Inf."""
        check(logits)
        temperature, top_p, _ = self.sampling
        if temperature == 0:
            return [int(token) for token in logits.argmax(-1)]
        [numbers] = self.draw(texts, 1)
        rows = zip(logits, numbers, strict=True)
        return [choose(row, temperature, top_p, number) for row, number in rows]

    def draw(self, texts: Sequence[int], steps: int) -> list[list[float]]:
        """The next `steps` numbers of each text, [steps, texts]; zeros where none is needed."""
        if self.sampling.temperature == 0:
            return [[0.0] * len(texts)] * steps
        return [[next(self.numbers[text]) for text in texts] for _ in range(steps)]


def uniform_numbers(seed: int) -> Iterator[float]:
    """Float32 numbers in [0, 1), drawn by a generator of their own."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.rand(256, generator=generator).tolist()  # pyright: ignore


def choose(logits: Float[Tensor, "V"], temperature: float, top_p: float, number: float) -> int:
    """The token that `number`, uniform in [0, 1), draws from the nucleus: of its tokens, the
    likeliest first, the one at which the sum of probabilities exceeds that share of them all."""
    inside = nucleus((logits.double() / temperature).softmax(-1), top_p)
    ordered, index = inside.sort(descending=True, stable=True)
    sums = ordered.cumsum(-1)
    place = int(torch.searchsorted(sums, number * sums[-1], right=True))
    return int(index[min(place, int((ordered > 0).sum()) - 1)])


def nucleus(probabilities: Float[Tensor, "V"], top_p: float) -> Float[Tensor, "V"]:
    """The probabilities, with zero for tokens outside the nucleus: the smallest set of likeliest
    tokens that reaches `top_p`. Not normalized."""
    ordered, index = probabilities.sort(descending=True, stable=True)
    likelier = ordered.cumsum(-1) - ordered  # probability of all likelier tokens
    inside = torch.where(likelier < top_p, ordered, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, index, inside)
