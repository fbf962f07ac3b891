import pytest
import torch

from glam.evaluation.generation import generate
from glam.evaluation.sampling import UselessWeightsError, choose, nucleus

ALL = {"max_tokens": 12, "temperature": 1.0, "top_p": 1.0, "seed": 0, "context": 16}


def test_greedy_is_the_loop_over_the_likeliest(model, tokenizer):
    written = generate(model, tokenizer, "abc", **{**ALL, "temperature": 0})
    tokens = [0, *tokenizer.encode("abc")]
    model.eval()
    for _ in range(12):
        token = int(model(torch.tensor([tokens])).logits[0, -1].argmax())
        if token == tokenizer.eos:
            break
        tokens.append(token)
    assert written == tokenizer.decode(tokens[4:])


def test_the_seed_decides_what_is_drawn(model, tokenizer):
    drawn = [generate(model, tokenizer, "abc", **{**ALL, "seed": seed}) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_generation_leaves_the_generators_alone(model, tokenizer):
    before = torch.get_rng_state()
    generate(model, tokenizer, "abc", **ALL)
    assert torch.equal(torch.get_rng_state(), before)


def test_beyond_the_length_trained_on_the_whole_text_is_seen(model, tokenizer):
    options = {**ALL, "temperature": 0, "max_tokens": 1, "context": 4}
    prompt = "abcdefghijklmnop"
    tokens = torch.tensor([[tokenizer.bos, *tokenizer.encode(prompt)]])
    token = int(model.eval()(tokens).logits[0, -1].argmax())
    assert generate(model, tokenizer, prompt, **options) == tokenizer.decode([token])


def test_the_end_of_a_document_ends_the_text(model, tokenizer, monkeypatch):
    tokens = iter([5, 6, tokenizer.eos, 7])
    monkeypatch.setattr("glam.evaluation.sampling.choose", lambda *_: next(tokens))
    assert generate(model, tokenizer, "a", **ALL) == tokenizer.decode([5, 6])


def test_a_slow_model_writes_what_the_seconds_allow(model, tokenizer):
    whole = generate(model, tokenizer, "abc", **ALL)
    hasty = generate(model, tokenizer, "abc", **ALL, seconds=0)
    assert hasty
    assert whole.startswith(hasty)
    assert len(hasty) < len(whole)


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_give_no_probabilities_are_refused(model, tokenizer, temperature, value):
    model.embedding.w_VM.data[3, 0] = value
    with pytest.raises(UselessWeightsError, match="NaN or Inf in place of probabilities"):
        generate(model, tokenizer, "abc", **{**ALL, "temperature": temperature})


def smallest_set(probabilities, top_p):
    """Add the likeliest until they reach top_p."""
    chosen, total = [], 0.0
    for index in sorted(range(len(probabilities)), key=lambda i: -probabilities[i]):
        if total >= top_p:
            break
        chosen.append(index)
        total += probabilities[index]
    return sorted(chosen)


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.5, 0.9, 0.999])
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p):
    torch.manual_seed(0)
    for _ in range(20):
        probabilities = (3 * torch.randn(30)).double().softmax(-1)
        kept = nucleus(probabilities, top_p)
        assert kept.nonzero().flatten().tolist() == smallest_set(probabilities.tolist(), top_p)
        assert torch.equal(kept[kept > 0], probabilities[kept > 0])


def test_top_p_that_is_reached_exactly_needs_no_more():
    kept = nucleus(torch.tensor([0.25, 0.5, 0.25]), 0.5)
    assert kept.tolist() == [0, 0.5, 0]


def test_draws_follow_the_temperature():
    logits, generator = torch.tensor([0.0, 1.0, 2.0]), torch.Generator().manual_seed(0)
    for temperature in (0.5, 2.0):
        drawn = [choose(logits, temperature, 1.0, generator) for _ in range(4000)]
        shares = torch.bincount(torch.tensor(drawn), minlength=3) / 4000
        expected = (logits / temperature).softmax(-1)
        assert (shares - expected).abs().max() < 0.03
