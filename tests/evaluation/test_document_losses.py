"""The held-out loss, document by document."""

import pytest

from glam.evaluation import evaluate_domains
from glam.evaluation.document_losses import document_losses

ROWS = {"sequence_length": 8, "batch_size": 3, "max_tokens": 1000}


def test_documents_add_up_to_the_loss_of_their_domain(model, prepared):
    found = document_losses(model, prepared, **ROWS)
    for domain, result in evaluate_domains(model, prepared, **ROWS).items():
        losses = found[domain]
        assert losses.tokens.sum() == result.tokens
        assert losses.nats.sum() / losses.tokens.sum() == pytest.approx(result.loss, rel=1e-5)
    assert found["long"].tokens.tolist() == [30, 21, 9]


def test_documents_that_were_not_measured_are_left_out(model, prepared):
    found = document_losses(model, prepared, **{**ROWS, "max_tokens": 8}, domains=["long"])
    assert found["long"].tokens.tolist() == [8]
