"""AutoTokenizer gives a text the tokens of the tokenizer that the model was trained with."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import SAMPLE

from glam.data.text import clean
from glam.export.tokenizer import fast_tokenizer

WRITTEN = ["<s>", "</s>", "<unk>", "<0x41>", "\n", " ", ".", "people", "é", "日", "<", "7"]


@pytest.fixture(scope="module")
def fast(tokenizer):
    return fast_tokenizer(tokenizer)


def total_score(tokenizer, tokens):
    """Of a way to cut a text; a byte stands for a piece that the vocabulary lacks."""
    return sum(tokenizer.score(token) for token in tokens)


@given(st.lists(st.sampled_from(WRITTEN) | st.text(max_size=4), max_size=12).map("".join))
def test_tokens_are_the_same_or_another_cut_of_the_same_score(tokenizer, fast, text):
    text = clean(text).replace("▁", " ")  # which is read as a space there
    expected, found = tokenizer.encode(text), fast.encode(text, add_special_tokens=False).ids
    if found != expected:
        scores = [total_score(tokenizer, tokens) for tokens in (expected, found)]
        assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert fast.decode(found, skip_special_tokens=False) == tokenizer.decode(expected)


def test_a_text_begins_as_a_document_does_and_control_tokens_in_it_are_text(sparse, tokenizer):
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(sparse[0], trust_remote_code=True)
    for text in (SAMPLE, "A <s> is no </s>, nor <unk>", ""):
        assert loaded(text).input_ids == [tokenizer.bos, *tokenizer.encode(text)]
        assert loaded.decode(loaded(text).input_ids, skip_special_tokens=True) == text
    assert (loaded.bos_token_id, loaded.eos_token_id) == (tokenizer.bos, tokenizer.eos)


def test_the_tokenizers_own_files_lie_in_the_folder(sparse, tokenizer):
    again = type(tokenizer)(sparse[0])
    assert again.fingerprint == tokenizer.fingerprint
    config = json.loads((sparse[0] / "tokenizer_config.json").read_text())
    assert config["model_max_length"] == 16
