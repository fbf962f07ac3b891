"""Continues many texts of tokens at a time: greedily, by drawing, or by beam search."""

import math
import time
from collections.abc import Callable, Sequence

from torch import nn

from glam.config.dispatchers.built_in import Capacity, Grouped
from glam.model.decoding.beam import Beams, beam_search
from glam.model.decoding.cached_decoder import CachedDecoder
from glam.model.decoding.decoder import Decoder, GrowingContext
from glam.model.decoding.kernel_decoder import KernelDecoder
from glam.model.decoding.kernel_weights import kernel_serves
from glam.model.decoding.sampling import GREEDY, Sampler, Sampling, check
from glam.model.evaluating import evaluating
from glam.model.glam import Glam

BATCH = 16  # texts that are written side by side
AHEAD = 32  # most steps of a kernel before an end or a stop is looked for
MOST_ROOM = 4096  # tokens that memory is taken for beforehand
SECONDS_AHEAD = 0.02  # in which so many may be made: a person sees text as it is made


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
    decoder: Decoder | None = None,
) -> list[list[int]]:
    """The new tokens after each prompt, which has at least one token: up to `max_tokens` (one
    number, or one for each prompt), up to the token `end`, which is left out, or until
    `stop(number of the prompt, its new tokens)` is true; with the token that made it true.

    A text does not depend on its batch. `on_token(number of the prompt, token)` sees tokens as they
    are drawn, which a beam search cannot. `context` is the length that texts are filled up to where
    the model wants one shape. `decoder` is the model's fastest if none is given.
    Drawing ends after `seconds`, but not before every text of the batch has a token. Raises
    UselessWeightsError where the model gives no probabilities.
    """
    count = len(prompts)
    limits = [max_tokens] * count if isinstance(max_tokens, int) else list(max_tokens)
    written = [list[int]() for _ in range(count)]
    with evaluating(model):
        decoder = decoder or new_decoder(model, context)
        if isinstance(search, Beams):
            return _best_beams(decoder, prompts, search, limits, end, stop)
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
            _write(decoder, prompts, texts, max(limits), sampler, is_done, until)
    return written


def _best_beams(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    beams: Beams,
    limits: Sequence[int],
    end: int,
    stop: Callable[[int, list[int]], bool],
) -> list[list[int]]:
    """The best text of each prompt, one after the other."""
    return [
        beam_search(
            decoder,
            prompt,
            beams,
            max_tokens=limits[text],
            end=end,
            stop=lambda new, text=text: stop(text, new),
            check=check,
        )
        for text, prompt in enumerate(prompts)
    ]


def _write(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    texts: list[int],
    room: int,
    sampler: Sampler,
    is_done: Callable[[int, int], bool],
    until: float,
) -> None:
    """Continue the `texts`, numbers of prompts, side by side until each is done; a text that is
    done leaves the batch."""
    pace = _Pace()
    logits = decoder.start([prompts[text] for text in texts], min(room, MOST_ROOM))
    steps = [sampler.tokens(logits, texts)]
    while True:
        done = set[int]()
        for tokens in steps:  # those drawn ahead of a text's end are left out
            for row, text in enumerate(texts):
                if row not in done and is_done(text, tokens[row]):
                    done.add(row)
        rows = [row for row in range(len(texts)) if row not in done]
        if not rows or time.monotonic() > until:
            return
        tokens = [steps[-1][row] for row in rows]
        if done:
            decoder.keep(rows)
            texts = [texts[row] for row in rows]
        if isinstance(decoder, KernelDecoder) and decoder.goes_ahead:
            numbers = sampler.draw(texts, pace.steps())
            steps = decoder.ahead(tokens, numbers, sampler.sampling)
        else:
            steps = [sampler.tokens(decoder.step(tokens), texts)]


class _Pace:
    """How many steps a decoder goes ahead before its tokens are looked at: twice as many as the
    last time, while that takes less than `SECONDS_AHEAD`."""

    def __init__(self) -> None:
        self._steps, self._asked = 0, time.monotonic()

    def steps(self) -> int:
        now = time.monotonic()
        quick = now - self._asked < SECONDS_AHEAD
        self._steps = max(1, min(AHEAD, 2 * self._steps) if quick else self._steps // 2)
        self._asked = now
        return self._steps


def new_decoder(model: Glam, context: int) -> Decoder:
    """The fastest decoder that serves this model."""
    if not cache_serves(model):
        return GrowingContext(model, context)
    return KernelDecoder(model) if kernel_serves(model) else CachedDecoder(model)


def cache_serves(model: Glam) -> bool:
    """Whether keys and values can be kept: not of a sharded model, not of one that wants one shape,
    since every length is another, and not with a dispatcher of the user's own, which may mix
    positions."""
    plain = all(type(weight) is nn.Parameter for weight in model.parameters())
    return (
        plain
        and not model.one_shape
        and isinstance(model.config.dispatcher_config, Grouped | Capacity)
    )
