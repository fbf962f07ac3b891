"""Held-out loss document by document, so that two models can be compared on the same ones."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from glam.data import PreparedData, held_out
from glam.evaluation.held_out import evaluating
from glam.model import Glam


class DocumentLosses(NamedTuple):
    """Of a domain: nats and tokens of every document that was measured, both `[D]`."""

    nats: NDArray[np.float64]
    tokens: NDArray[np.float64]


def document_losses(
    model: Glam,
    prepared: PreparedData,
    *,
    sequence_length: int,
    batch_size: int,
    max_tokens: int,
    domains: Iterable[str] | None = None,
) -> dict[str, DocumentLosses]:
    """By domain, on the tokens of the held-out loss; of `domains`, or of all."""
    found: dict[str, DocumentLosses] = {}
    device = next(model.parameters()).device
    with evaluating(model):
        for domain in prepared.domains if domains is None else domains:
            count = len(prepared.held_out[domain])
            nats, tokens = np.zeros(count), np.zeros(count)
            for batch in held_out(prepared, domain, sequence_length, batch_size, max_tokens):
                parts = (batch.tokens, batch.targets, batch.segments)
                inputs = (
                    torch.from_numpy(part).to(device)  # pyright: ignore[reportUnknownMemberType]
                    for part in parts
                )
                losses = model.loss(*inputs).token_losses.cpu().double().numpy()[batch.mask]
                document = batch.documents[batch.mask]
                nats += np.bincount(document, losses, minlength=count)
                tokens += np.bincount(document, minlength=count)
            there = tokens > 0
            found[domain] = DocumentLosses(nats[there], tokens[there])
    return found
