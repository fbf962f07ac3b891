"""Draws the next token from logits: greedily, or from the nucleus."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Sampling(NamedTuple):
    """Temperature 0 takes the likeliest token. Otherwise a token is drawn from the nucleus, the
    fewest likeliest tokens whose probabilities reach `top_p` (arXiv 1904.09751). Text number i is
    drawn by the seed `seed + i`, whatever batch it is in."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


GREEDY = Sampling()


class Sampler:
    """Chooses the next token of every text, each by a generator of its own."""

    def __init__(self, sampling: Sampling, texts: int) -> None:
        self.sampling = sampling
        self.generators = [
            torch.Generator().manual_seed(sampling.seed + text) for text in range(texts)
        ]

    def tokens(self, logits: Float[Tensor, "B V"], texts: Sequence[int]) -> list[int]:
        """The next tokens of the texts of these numbers, by the logits of each."""
        temperature, top_p, _ = self.sampling
        if temperature == 0:
            return logits.argmax(-1).tolist()  # pyright: ignore[reportUnknownMemberType]
        return [
            choose(row, temperature, top_p, self.generators[text])
            for row, text in zip(logits, texts, strict=True)
        ]


def choose(
    logits: Float[Tensor, "V"], temperature: float, top_p: float, generator: torch.Generator
) -> int:
    """The next token by these logits."""
    if temperature == 0:
        return int(logits.argmax())
    probabilities = nucleus((logits / temperature).softmax(-1), top_p)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def nucleus(probabilities: Float[Tensor, "V"], top_p: float) -> Float[Tensor, "V"]:
    """The probabilities, with zero for tokens outside the nucleus: the smallest set of likeliest
    tokens that reaches `top_p`. Not normalized."""
    ordered, index = probabilities.sort(descending=True, stable=True)
    likelier = ordered.cumsum(-1) - ordered  # probability of all likelier tokens
    inside = torch.where(likelier < top_p, ordered, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, index, inside)
