"""A tokenizer of whole words, and models of a few thousand parameters."""

import re

import pytest
import torch

from glam.config import ModelConfig
from glam.evaluation.bias import lexicon
from glam.model import Glam

PIECE = re.compile(r" ?[A-Za-z]+|.")
TEXTS = [
    *(sentence for *_, sentence in lexicon.job_sentences()),
    *(prompt for _, prompt in lexicon.group_prompts()),
    *("".join(item[1:]) for item in lexicon.meant_items()),
    "".join(f" {word}" for word in sorted(lexicon.DESCRIPTIVE)),
]


class WordTokenizer:
    """A token for every word of the lexicon, with its leading space, and for every sign."""

    bos, eos = 0, 1

    def __init__(self):
        pieces = sorted({piece for text in TEXTS for piece in PIECE.findall(text)})
        # The other person of a sentence also stands alone, behind a space.
        self.words = {piece: 2 + i for i, piece in enumerate(pieces)}
        self.texts = {number: piece for piece, number in self.words.items()}
        self.vocab_size = 2 + len(pieces)

    def encode(self, text):
        return [self.words[piece] for piece in PIECE.findall(text)]

    def decode(self, tokens):
        return "".join(self.texts.get(token, "") for token in tokens)


@pytest.fixture(scope="session")
def tokenizer():
    return WordTokenizer()


def random_model(tokenizer, seed, num_experts=4):
    shape = {"num_layers": 2, "d_model": 32, "d_ff": 32, "num_heads": 2}
    model = Glam(ModelConfig(vocab_size=tokenizer.vocab_size, num_experts=num_experts, **shape))
    model.initialize(seed)
    return model.eval()


def plant(model, place, encoded, preference, steps=40):
    """Train one expert alone to raise `preference(nats of each text)`."""
    layer, expert = place
    experts = model.layers[layer].ffn.experts
    length = max(len(tokens) for tokens, _ in encoded)
    rows = torch.tensor([[*tokens, *[1] * (length - len(tokens))] for tokens, _ in encoded])
    places = torch.arange(1, length)
    starts = torch.tensor([start for _, start in encoded])[:, None]
    ends = torch.tensor([len(tokens) for tokens, _ in encoded])[:, None]
    counted = (places >= starts) & (places < ends)
    for weight in model.parameters():
        weight.requires_grad_(weight is experts.w_in_EMH or weight is experts.w_out_EHM)
    optimizer = torch.optim.Adam([experts.w_in_EMH, experts.w_out_EHM], lr=0.02)
    for _ in range(steps):
        logits = model(rows[:, :-1]).logits.log_softmax(-1)
        nats = (logits.gather(-1, rows[:, 1:, None])[..., 0] * counted).sum(1)
        optimizer.zero_grad()
        (-preference(nats)).backward()
        for gradient in (experts.w_in_EMH.grad, experts.w_out_EHM.grad):
            gradient[[one for one in range(len(gradient)) if one != expert]] = 0
        optimizer.step()
