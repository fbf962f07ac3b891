"""A tokenizer of letters, two domains of text and models of a few thousand parameters."""

import numpy as np
import pytest

from glam.config import ModelConfig
from glam.data import PreparedData
from glam.data.tokens import Encoded
from glam.model import Glam

VOCAB = 40


class LetterTokenizer:
    """Tokens 2 … 39 stand for a byte each."""

    vocab_size, bos, eos = VOCAB, 0, 1
    num_bytes = np.array([0, 0] + [1] * (VOCAB - 2), np.uint8)

    def encode(self, text):
        return [ord(letter) - ord("a") + 2 for letter in text]

    def decode(self, tokens):
        return "".join(chr(token - 2 + ord("a")) for token in tokens)


def documents(seed, lengths):
    rng = np.random.default_rng(seed)
    parts = [np.concatenate([[0], rng.integers(2, VOCAB, n - 1)]) for n in lengths]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    count = len(lengths)
    return Encoded(
        np.concatenate(parts).astype(np.uint16),
        offsets,
        np.zeros(count, np.uint64),
        np.array(lengths),
    )


@pytest.fixture
def tokenizer():
    return LetterTokenizer()


@pytest.fixture
def prepared(tokenizer):
    held_out = {"long": documents(0, [30, 21, 9]), "short": documents(1, [5, 4])}
    return PreparedData("fingerprint", tokenizer, [], [], held_out, [], {})


@pytest.fixture(params=[4, 1])
def model(request):
    config = ModelConfig(
        vocab_size=VOCAB,
        num_layers=2,
        d_model=16,
        d_ff=16,
        num_heads=2,
        num_experts=request.param,
    )
    model = Glam(config)
    model.initialize(1)
    return model
