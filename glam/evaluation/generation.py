"""Text from a model, one token after the other."""

import math
import time

import torch
from jaxtyping import Float
from torch import Tensor

from glam.data import Tokenizer
from glam.evaluation.held_out import evaluating
from glam.model import Glam


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
    """What follows the prompt, up to `max_tokens` tokens or the end of the document, or as far as
    it comes in `seconds` (one token at least).

    Temperature 0 takes the likeliest token each time; else one is drawn, by `seed`, from the
    fewest likeliest tokens that have probability `top_p` together. The model sees the last
    `context` tokens.
    """
    tokens = [tokenizer.bos, *tokenizer.encode(prompt)]
    start = len(tokens)
    generator = torch.Generator().manual_seed(seed)
    end = time.monotonic() + seconds
    with evaluating(model):
        while len(tokens) < start + max_tokens and (len(tokens) == start or time.monotonic() < end):
            logits = _next_logits(model, tokens[-context:], context, tokenizer.eos)
            token = choose(logits, temperature, top_p, generator)
            if token == tokenizer.eos:
                break
            tokens.append(token)
    # Decoded with the prompt: a piece's leading space depends on what stands before it.
    whole = tokenizer.decode(tokens[1:])
    return whole[len(tokenizer.decode(tokens[1:start])) :]


def _next_logits(model: Glam, tokens: list[int], context: int, padding: int) -> Float[Tensor, "V"]:
    device = next(model.parameters()).device
    if device.type != "xla":
        return model(torch.tensor([tokens], device=device)).logits[0, -1].cpu()
    # One shape for every length, or each is compiled: what lies ahead is not seen.
    filled = tokens + [padding] * (context - len(tokens))
    return model(torch.tensor([filled]).to(device)).logits[0].cpu()[len(tokens) - 1]


def choose(
    logits: Float[Tensor, "V"], temperature: float, top_p: float, generator: torch.Generator
) -> int:
    if temperature == 0:
        return int(logits.argmax())
    probabilities = nucleus((logits / temperature).softmax(-1), top_p)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def nucleus(probabilities: Float[Tensor, "V"], top_p: float) -> Float[Tensor, "V"]:
    """The probabilities with all but the smallest set of likeliest tokens that reaches `top_p` set
    to zero; not divided by their sum."""
    ordered, index = probabilities.sort(descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = torch.where(before < top_p, ordered, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, index, kept)
