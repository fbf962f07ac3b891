"""Log-probabilities of texts and of what continues them, in batches of like length."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from glam.data import Tokenizer
from glam.evaluation.held_out import evaluating
from glam.model import Glam

TOKENS_AT_ONCE = 8192  # of a batch, padding included

Text = tuple[str, str]  # what is given, and what continues it


def log_probabilities(
    model: Glam, tokenizer: Tokenizer, texts: Sequence[Text]
) -> NDArray[np.float64]:
    """Of each continuation after what it continues, in nats `[texts]`."""
    encoded = [encode(tokenizer, text) for text in texts]
    return token_log_probabilities(model, encoded, tokenizer.eos)


def encode(tokenizer: Tokenizer, text: Text) -> tuple[list[int], int]:
    """The tokens of a text from the beginning of a document, and where its continuation begins.
    Both are encoded together, as text is, and the continuation has the tokens after those that the
    beginning shares with the whole: a piece may reach over the border."""
    before = [tokenizer.bos, *tokenizer.encode(text[0])]
    whole = [tokenizer.bos, *tokenizer.encode(text[0] + text[1])]
    shared = next(
        (i for i, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), len(before)
    )
    return whole, max(1, min(shared, len(whole) - 1))


def token_log_probabilities(
    model: Glam, encoded: Sequence[tuple[Sequence[int], int]], padding: int
) -> NDArray[np.float64]:
    """The same of tokens `(whole, start of the continuation)`."""
    found = np.zeros(len(encoded))
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i][0]))
    device = next(model.parameters()).device
    with evaluating(model):
        for batch in _batches(order, encoded):
            length = max(len(encoded[i][0]) for i in batch)
            rows = np.full((len(batch), length), padding, np.int64)
            counted = np.zeros((len(batch), length - 1), bool)
            for row, i in enumerate(batch):
                tokens, start = encoded[i]
                rows[row, : len(tokens)] = tokens
                counted[row, start - 1 : len(tokens) - 1] = True
            tokens = torch.from_numpy(rows).to(device)  # pyright: ignore[reportUnknownMemberType]
            # Attention is causal: padding behind a text is not seen.
            losses = model.loss(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
            nats = losses.token_losses.cpu().double().numpy()
            found[batch] = -(nats * counted).sum(1)
    return found


def _batches(order: Sequence[int], encoded: Sequence[tuple[Sequence[int], int]]) -> list[list[int]]:
    found: list[list[int]] = []
    for i in order:
        length = len(encoded[i][0])
        if not found or (len(found[-1]) + 1) * length > TOKENS_AT_ONCE:
            found.append([])
        found[-1].append(i)
    return found
