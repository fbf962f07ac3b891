"""Encoded text."""

from itertools import chain

import numpy as np
import pytest

from glam.data import tokens as tokens_module
from glam.data.tokens import Encoded


@pytest.mark.parametrize("at_once", [1, 7, 1_000_000])
def test_tokens_of_kept_documents_come_in_batches_whole_and_in_order(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(tokens_module, "_AT_ONCE", at_once)
    draws = np.random.default_rng(at_once)
    for documents in (0, 1, 40):
        lengths = draws.integers(1, 20, documents)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        tokens = draws.integers(0, 60_000, offsets[-1]).astype(np.uint16)
        encoded = Encoded(tokens, offsets, np.arange(documents, dtype=np.uint64), lengths)
        kept = draws.random(documents) < 0.5
        found = list(encoded.batches(kept))
        expected = [encoded.document(index).tolist() for index in np.flatnonzero(kept)]
        assert np.concatenate([[], *found]).tolist() == list(chain(*expected))
        assert all(len(batch) < at_once + 20 for batch in found)
