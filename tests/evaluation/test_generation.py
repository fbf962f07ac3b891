import pytest
import torch

from glam.evaluation import Sampling, UselessWeightsError, generate
from glam.evaluation.generation import Stream, text_after

ALL = {"max_tokens": 12, "context": 16}
DRAWN = Sampling(1.0, 1.0, 0)


def written(model, tokenizer, prompt, search=DRAWN, **changed):
    [text] = generate(model, tokenizer, [prompt], search, **ALL | changed)
    return text


def test_greedy_text_is_that_of_the_likeliest_tokens(model, tokenizer):
    tokens = [0, *tokenizer.encode("abc")]
    model.eval()
    for _ in range(12):
        token = int(model(torch.tensor([tokens])).logits[0, -1].argmax())
        if token == tokenizer.eos:
            break
        tokens.append(token)
    assert written(model, tokenizer, "abc", Sampling()) == tokenizer.decode(tokens[4:])


def test_the_seed_decides_what_is_drawn(model, tokenizer):
    drawn = [written(model, tokenizer, "abc", Sampling(1.0, 1.0, seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    both = generate(model, tokenizer, ["abc", "abc"], DRAWN, **ALL)
    assert both == [drawn[0], drawn[2]]


def test_beyond_the_length_trained_on_the_whole_text_is_seen(model, tokenizer):
    prompt = "abcdefghijklmnop"
    tokens = torch.tensor([[tokenizer.bos, *tokenizer.encode(prompt)]])
    token = int(model.eval()(tokens).logits[0, -1].argmax())
    options = {"max_tokens": 1, "context": 4}
    assert written(model, tokenizer, prompt, Sampling(), **options) == tokenizer.decode([token])


def test_the_end_of_a_document_ends_the_text(model, tokenizer, monkeypatch):
    whole = tokenizer.encode(written(model, tokenizer, "a"))
    assert len(whole) > 2
    tokenizer.eos = whole[2]
    assert tokenizer.encode(written(model, tokenizer, "a")) == whole[: whole.index(whole[2])]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_give_no_probabilities_are_refused(model, tokenizer, temperature, value):
    model.embedding.w_VM.data[3, 0] = value
    with pytest.raises(UselessWeightsError, match="NaN or Inf in place of probabilities"):
        written(model, tokenizer, "abc", Sampling(temperature))


class BytesTokenizer:
    """A token is a byte of UTF-8."""

    bos = 0

    def encode(self, text):
        return list(text.encode())

    def decode(self, tokens):
        return bytes(tokens).decode(errors="replace")


@pytest.mark.parametrize("text", ["naïve", "日本 语", "end \N{GRINNING FACE}", "x"])
def test_a_stream_tells_whole_characters_and_all_of_them(text):
    tokenizer = BytesTokenizer()
    stream = Stream(tokenizer, "before, ï")
    pieces = [stream.add(token) for token in tokenizer.encode(text)]
    assert "".join(pieces) == text
    assert stream.rest() == ""
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces)


def test_what_a_stream_held_back_is_told_at_its_end():
    stream = Stream(BytesTokenizer(), "a")
    assert stream.add(0xC3) == ""
    assert stream.rest() == "\N{REPLACEMENT CHARACTER}"


def test_text_after_a_prompt_is_what_the_prompt_lacks(tokenizer):
    assert text_after(tokenizer, [0, 2, 3], [4, 5]) == "cd"
