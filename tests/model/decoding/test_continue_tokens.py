import time

import pytest
import torch
from tiny_models import END, VOCAB, model_of

from glam import kernels
from glam.config import DISPATCHERS
from glam.config.dispatchers import DispatcherConfig
from glam.model import Glam
from glam.model.decoding import continue_tokens as module
from glam.model.decoding.cached_decoder import CachedDecoder
from glam.model.decoding.continue_tokens import continue_tokens, new_decoder
from glam.model.decoding.decoder import GrowingContext
from glam.model.decoding.kernel_decoder import KernelDecoder
from glam.model.decoding.sampling import Sampling


class OwnDispatcher(DispatcherConfig):
    """One of a user's."""

    name = "own"

    def rows(self, model, tokens):
        return tokens


PROMPTS = [[0, 3, 4], [0, 7], [0, *range(5, 48)], [0, 9, 9, 9]]


@pytest.fixture(params=[{"num_experts": 4}, {"num_experts": 1}])
def model(request):
    return model_of(**request.param)


def by_definition(model, prompt, count):
    """The likeliest token each time, by the whole text."""
    text = list(prompt)
    with torch.no_grad():
        while len(text) < len(prompt) + count:
            token = int(model(torch.tensor([text])).logits[0, -1].argmax())
            if token == END:
                break
            text.append(token)
    return text[len(prompt) :]


def test_greedy_is_the_loop_over_the_likeliest(model):
    expected = [by_definition(model, prompt, 24) for prompt in PROMPTS]
    for batch_size in (1, 3):
        found = continue_tokens(model, PROMPTS, max_tokens=24, end=END, batch_size=batch_size)
        assert found == expected
    with kernels.switched_off():
        assert continue_tokens(model, PROMPTS, max_tokens=24, end=END) == expected


def test_what_is_drawn_depends_on_the_seed_and_the_prompts_number_not_on_the_batch(model):
    def drawn(seed, **options):
        search = Sampling(1.0, 0.9, seed)
        return continue_tokens(model, PROMPTS, max_tokens=20, end=END, search=search, **options)

    assert drawn(0) == drawn(0, batch_size=1) == drawn(0, batch_size=3)
    assert drawn(1)[0] != drawn(0)[0]
    with kernels.switched_off():
        assert drawn(0) == drawn(0, batch_size=2)


def test_each_text_has_its_own_limit(model):
    limits = [5, 0, 1, 33]
    found = continue_tokens(model, PROMPTS, max_tokens=limits, end=-1)
    assert [len(new) for new in found] == limits
    whole = continue_tokens(model, PROMPTS, max_tokens=33, end=-1)
    assert found == [new[:limit] for new, limit in zip(whole, limits, strict=True)]


def test_a_stop_ends_a_text_with_the_token_that_made_it_true(model):
    whole = continue_tokens(model, PROMPTS, max_tokens=40, end=-1)
    found = continue_tokens(
        model, PROMPTS, max_tokens=40, end=-1, stop=lambda text, new: len(new) == 3 + 5 * text
    )
    assert found == [new[: 3 + 5 * text] for text, new in enumerate(whole)]


def test_tokens_are_told_as_they_are_drawn(model):
    told = [[] for _ in PROMPTS]
    found = continue_tokens(
        model, PROMPTS, max_tokens=9, end=END, on_token=lambda text, token: told[text].append(token)
    )
    assert told == found


def test_a_slow_model_writes_what_the_seconds_allow(monkeypatch):
    model = model_of(num_experts=4)
    whole = continue_tokens(model, PROMPTS, max_tokens=50, end=-1)
    monkeypatch.setattr(module, "AHEAD", 1)
    hasty = continue_tokens(model, PROMPTS, max_tokens=50, end=-1, seconds=0.0)
    for few, many in zip(hasty, whole, strict=True):
        assert 0 < len(few) < len(many)
        assert many[: len(few)] == few


def test_a_decoder_goes_ahead_no_longer_than_a_person_would_wait():
    pace = module._Pace()
    assert [pace.steps() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 32, 32]
    pace._asked = time.monotonic() - 1
    assert pace.steps() == 16


def test_the_fastest_decoder_that_serves_is_taken(kernels_here, monkeypatch):
    assert isinstance(new_decoder(model_of(), 16), KernelDecoder)
    assert isinstance(new_decoder(model_of(torch.float64), 16), CachedDecoder)
    own = model_of(num_experts=4)
    own.config.dispatcher = "own"
    monkeypatch.setitem(DISPATCHERS._classes, "own", OwnDispatcher)
    assert isinstance(new_decoder(own, 16), GrowingContext)


def test_a_model_writes_in_python(model):
    assert model.generate(PROMPTS, end=END, max_tokens=9) == [
        by_definition(model, prompt, 9) for prompt in PROMPTS
    ]
    drawn = model.generate(PROMPTS, end=END, max_tokens=9, temperature=1.0, seed=3)
    search = Sampling(1.0, 1.0, 3)
    assert drawn == continue_tokens(model, PROMPTS, max_tokens=9, end=END, search=search)
    assert len(model.generate([[0, 3]], end=-1, max_tokens=9, beams=3)[0]) == 9


def test_writing_leaves_mode_and_generators_as_they_were(model):
    before = torch.get_rng_state()
    model.train()
    continue_tokens(model, PROMPTS, max_tokens=3, end=END, search=Sampling(1.0))
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_rows_of_the_growing_context_end_where_their_text_does():
    model: Glam = model_of(torch.float64, num_experts=4)
    together = GrowingContext(model).start(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        alone = model(torch.tensor([prompt])).logits[0, -1]
        torch.testing.assert_close(together[row], alone, rtol=1e-12, atol=1e-12)
    assert together.shape == (4, VOCAB)
