"""Generates text from a model: one or many at a time, greedily, by drawing, or by beam search."""

import math
import time
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from glam.config.dispatchers.built_in import Capacity, Grouped
from glam.data import Tokenizer
from glam.errors import UserError
from glam.evaluation.beam import Beams, beam_search
from glam.evaluation.cached_decoder import CachedDecoder
from glam.evaluation.decoder import Decoder, GrowingContext
from glam.evaluation.held_out import evaluating
from glam.evaluation.kernel_decoder import KernelDecoder, kernel_serves
from glam.evaluation.sampling import GREEDY, Sampler, Sampling
from glam.model import Glam

BATCH = 16  # texts that are written side by side


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
    many tokens as `seconds` allow, at least one. `context` is the length trained on. See
    `Sampling`, and `continue_tokens` for the errors."""
    tokens = [tokenizer.bos, *tokenizer.encode(prompt)]
    [new] = continue_tokens(
        model,
        [tokens],
        max_tokens=max_tokens,
        end=tokenizer.eos,
        search=Sampling(temperature, top_p, seed),
        context=context,
        seconds=seconds,
    )
    return text_after(tokenizer, tokens, new)


def text_after(tokenizer: Tokenizer, prompt: Sequence[int], new: Sequence[int]) -> str:
    """The text of the tokens `new`. Decoded together with the prompt (which begins with the
    beginning of the document): the leading space of a piece depends on its predecessor."""
    whole = tokenizer.decode([*prompt[1:], *new])
    return whole[len(tokenizer.decode(prompt[1:])) :]


def continue_tokens(
    model: Glam,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int | Sequence[int],
    end: int,
    search: Sampling | Beams = GREEDY,
    stop: Callable[[int, list[int]], bool] = lambda text, new: False,
    on_token: Callable[[int, int], None] = lambda text, token: None,
    batch_size: int = BATCH,
    context: int = 1,
    seconds: float = math.inf,
) -> list[list[int]]:
    """The new tokens after each prompt, which has at least one token: up to `max_tokens` (one
    number, or one for each prompt), up to the token `end`, which is left out, or until
    `stop(number of the prompt, its new tokens)` is true; with the token that made it true.

    A text does not depend on its batch. `on_token(number of the prompt, token)` sees tokens as they
    are drawn, which a beam search cannot. `context` is the length that XLA compiles a shape for.
    Drawing ends after `seconds`, but not before every text of the batch has a token. Raises
    UselessWeightsError where the model gives no probabilities.
    """
    count = len(prompts)
    limits = [max_tokens] * count if isinstance(max_tokens, int) else list(max_tokens)
    written = [list[int]() for _ in range(count)]
    with evaluating(model):
        if isinstance(search, Beams):
            for text, prompt in enumerate(prompts):
                written[text] = beam_search(
                    new_decoder(model, context),
                    prompt,
                    search,
                    max_tokens=limits[text],
                    end=end,
                    stop=lambda new, text=text: stop(text, new),
                    check=check,
                )
            return written
        sampler, until = Sampler(search, count), time.monotonic() + seconds

        def is_done(text: int, token: int) -> bool:
            if token == end:
                return True
            written[text].append(token)
            on_token(text, token)
            return len(written[text]) >= limits[text] or stop(text, written[text])

        order = sorted((t for t in range(count) if limits[t] > 0), key=lambda t: -len(prompts[t]))
        for start in range(0, count, batch_size):
            texts = order[start : start + batch_size]
            decoder = new_decoder(model, context)
            _write(decoder, prompts, texts, sampler, is_done, until)
    return written


def _write(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    texts: list[int],
    sampler: Sampler,
    is_done: Callable[[int, int], bool],
    until: float,
) -> None:
    """Continue the `texts`, numbers of prompts, side by side until each is done; a text that is
    done leaves the batch."""
    logits = decoder.start([prompts[text] for text in texts])
    while True:
        check(logits)
        tokens = sampler.tokens(logits, texts)
        rows = [row for row, text in enumerate(texts) if not is_done(text, tokens[row])]
        if not rows or time.monotonic() > until:
            return
        if len(rows) < len(texts):
            decoder.keep(rows)
            texts, tokens = [texts[row] for row in rows], [tokens[row] for row in rows]
        logits = decoder.step(tokens)


def check(logits: Tensor) -> None:
    """Raises UselessWeightsError where logits are NaN or Inf."""
    if not math.isfinite(float(logits.sum())):
        raise UselessWeightsError(
            "the model gives NaN or Inf in place of probabilities: its run diverged; "
            "train another, with a lower optimizer.learning_rate"
        )


def new_decoder(model: Glam, context: int) -> Decoder:
    """The fastest decoder that serves this model."""
    if not cache_serves(model):
        return GrowingContext(model, context)
    return KernelDecoder(model) if kernel_serves(model) else CachedDecoder(model)


def cache_serves(model: Glam) -> bool:
    """Whether keys and values can be kept: not of a sharded model, not on XLA, which compiles a
    program for every length, and not with a dispatcher of the user's own, which may mix
    positions."""
    plain = all(type(weight) is nn.Parameter for weight in model.parameters())
    on_xla = next(model.parameters()).device.type == "xla"
    return plain and not on_xla and isinstance(model.config.dispatcher_config, Grouped | Capacity)
