"""Beam search against all texts there are."""

import itertools
import math

import pytest
import torch
from tiny_models import END, model_of

from glam.errors import UserError
from glam.model.decoding.beam import Beams, LengthPenalty
from glam.model.decoding.continue_tokens import continue_tokens

LETTERS, LONGEST = 4, 3


def all_texts():
    """Every text of at most LONGEST tokens, END only as the last."""
    for length in range(1, LONGEST + 1):
        for text in itertools.product(range(LETTERS), repeat=length):
            ended = text[-1] == END
            if END not in text[:-1] and (ended or length == LONGEST):
                yield list(text)


def score(model, prompt, text, penalty):
    tokens = torch.tensor([prompt + text])
    likelihoods = model(tokens).logits[0].log_softmax(-1)
    whole = sum(float(likelihoods[len(prompt) - 1 + at, token]) for at, token in enumerate(text))
    return whole / penalty(len(text))


@pytest.mark.parametrize(
    "penalty", [LengthPenalty(), LengthPenalty(0.6, "gnmt"), LengthPenalty(0.0)]
)
@torch.no_grad()
def test_beams_wide_enough_find_the_best_of_all_texts(penalty):
    model, prompt = model_of(torch.float64, num_experts=4, vocab_size=LETTERS), [0, 3, 2]
    best = max(all_texts(), key=lambda text: score(model, prompt, text, penalty))
    beams = Beams(LETTERS**LONGEST, penalty)
    [found] = continue_tokens(model, [prompt], max_tokens=LONGEST, end=END, search=beams)
    assert found == (best[:-1] if best[-1] == END else best)


@torch.no_grad()
def test_a_beam_search_does_not_lose_to_greedy():
    model, prompts = model_of(num_experts=4), [[0, 3, 2], [0, 9]]
    greedy = continue_tokens(model, prompts, max_tokens=6, end=-1)
    for width in (1, 4):
        search = Beams(width, LengthPenalty(0.0))
        beams = continue_tokens(model, prompts, max_tokens=6, end=-1, search=search)
        for row in zip(prompts, greedy, beams, strict=True):
            prompt, one, other = row
            plain = LengthPenalty(0.0)
            assert score(model, prompt, other, plain) >= score(model, prompt, one, plain) - 1e-5
        assert width > 1 or beams == greedy


def test_a_stop_ends_a_beam_as_the_end_of_the_text_does():
    model = model_of(num_experts=4)
    [found] = continue_tokens(
        model,
        [[0, 3]],
        max_tokens=9,
        end=-1,
        search=Beams(3),
        stop=lambda text, new: len(new) == 4,
    )
    assert len(found) == 4


def test_the_penalty_of_gnmt_is_that_of_its_paper():
    assert LengthPenalty(0.6, "gnmt")(7) == pytest.approx(2**0.6)
    assert LengthPenalty(0.5)(9) == 3
    assert math.isclose(LengthPenalty(0.0)(9), 1)
    with pytest.raises(UserError, match="length_penalty"):
        LengthPenalty(1.0, "bert")
