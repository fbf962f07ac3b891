"""Beam search: of the likeliest continuations, the best by log-probability over a length penalty.

The steps are those of Hugging Face's `generate` (`num_beams`, `early_stopping=False`), so that both
find the same text. Of twice `width` candidates a step, those that end and are among the best
`width` are kept as finished, and the best `width` of the others go on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from glam.config import LENGTH_PENALTIES
from glam.errors import one_of
from glam.model.decoding.decoder import Decoder


@dataclass(frozen=True)
class LengthPenalty:
    """What a text of n new tokens, its end included, divides its log-probability by: n ** exponent
    (`power`, Hugging Face's `length_penalty`) or ((5 + n) / 6) ** exponent (`gnmt`,
    arXiv 1609.08144, equation 14)."""

    exponent: float = 1.0
    form: str = "power"

    def __post_init__(self) -> None:
        one_of("length_penalty", self.form, LENGTH_PENALTIES)

    def __call__(self, tokens: int) -> float:
        return (tokens if self.form == "power" else (5 + tokens) / 6) ** self.exponent


class Beams(NamedTuple):
    """A beam search `width` wide."""

    width: int
    penalty: LengthPenalty = LengthPenalty()


class Candidate(NamedTuple):
    score: float  # log-probability, over the penalty where the text is finished
    row: int  # of the beam that it continues
    tokens: list[int]


def beam_search(
    decoder: Decoder,
    prompt: Sequence[int],
    beams: Beams,
    *,
    max_tokens: int,
    end: int,
    stop: Callable[[list[int]], bool],
    check: Callable[[Tensor], None],
) -> list[int]:
    """The new tokens of the best text found, without `end`. A text is finished by `end`, where
    `stop` is true of its new tokens, or at `max_tokens`. `check` sees all logits."""
    logits = decoder.start([prompt])
    scores, running = logits.new_zeros(1), [list[int]()]
    finished = list[Candidate]()
    for length in range(1, max_tokens + 1):
        check(logits)
        found = _candidates(logits, scores, running, 2 * beams.width)
        ended = [
            length == max_tokens or each.tokens[-1] == end or stop(each.tokens) for each in found
        ]
        finished += [
            each._replace(score=each.score / beams.penalty(length))
            for each, is_done in zip(found[: beams.width], ended, strict=False)
            if is_done
        ]
        finished = sorted(finished, key=lambda each: -each.score)[: beams.width]
        alive = [each for each, is_done in zip(found, ended, strict=True) if not is_done]
        alive = alive[: beams.width]
        if not alive or _is_decided(finished, alive[0].score / beams.penalty(length), beams.width):
            break
        decoder.keep([each.row for each in alive])
        running = [each.tokens for each in alive]
        scores = logits.new_tensor([each.score for each in alive])
        logits = decoder.step([tokens[-1] for tokens in running])
    best = max(finished, key=lambda each: each.score).tokens
    return best[:-1] if best[-1] == end else best


def _candidates(
    logits: Float[Tensor, "B V"], scores: Float[Tensor, "B"], running: list[list[int]], count: int
) -> list[Candidate]:
    """The likeliest texts one token longer, the likeliest first."""
    total = (logits.log_softmax(-1) + scores[:, None]).flatten()
    values, places = total.topk(min(count, len(total)))
    found = list[Candidate]()
    for value, place in zip(values, places, strict=True):
        row, token = divmod(int(place), logits.shape[1])
        found.append(Candidate(float(value), row, [*running[row], token]))
    return found


def _is_decided(finished: list[Candidate], best_alive: float, width: int) -> bool:
    """Whether no text that goes on, at its length now, is better than the worst of `width`."""
    return len(finished) == width and best_alive <= finished[-1].score
