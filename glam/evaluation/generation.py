"""Generates text from a model, token by token."""

import math
import time

import torch
from jaxtyping import Float
from torch import Tensor

from glam.data import Tokenizer
from glam.errors import UserError
from glam.evaluation.held_out import evaluating
from glam.model import Glam


class UselessWeightsError(UserError):
    """Logits are NaN or Inf: no token can be drawn by them."""


def generate(
    model: Glam,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    context: int,
    seconds: float = math.inf,
) -> str:
    """The text that follows the prompt: up to `max_tokens` tokens, the end of the document, or as
    many tokens as `seconds` allow, at least one.

    Temperature 0 takes the likeliest token each time. Otherwise a token is drawn by `seed` from the
    nucleus, the fewest likeliest tokens whose probabilities reach `top_p` (arXiv 1904.09751). The
    model sees the last `context` tokens. Raises UselessWeightsError where it gives no
    probabilities.
    """
    tokens = [tokenizer.bos, *tokenizer.encode(prompt)]
    start = len(tokens)
    generator = torch.Generator().manual_seed(seed)
    end = time.monotonic() + seconds
    with evaluating(model):
        while len(tokens) < start + max_tokens and (len(tokens) == start or time.monotonic() < end):
            logits = _next_logits(model, tokens[-context:], context, tokenizer.eos)
            if not logits.isfinite().all():
                raise UselessWeightsError(
                    "the model gives NaN or Inf in place of probabilities: its run diverged; "
                    "train another, with a lower optimizer.learning_rate"
                )
            token = choose(logits, temperature, top_p, generator)
            if token == tokenizer.eos:
                break
            tokens.append(token)
    # Decoded together with the prompt: the leading space of a piece depends on its predecessor.
    whole = tokenizer.decode(tokens[1:])
    return whole[len(tokenizer.decode(tokens[1:start])) :]


def _next_logits(model: Glam, tokens: list[int], context: int, padding: int) -> Float[Tensor, "V"]:
    device = next(model.parameters()).device
    if device.type != "xla":
        return model(torch.tensor([tokens], device=device)).logits[0, -1].cpu()
    # One shape for every length, or XLA compiles each; attention is causal, so padding is not seen.
    filled = tokens + [padding] * (context - len(tokens))
    return model(torch.tensor([filled]).to(device)).logits[0].cpu()[len(tokens) - 1]


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
