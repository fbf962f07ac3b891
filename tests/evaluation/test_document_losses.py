"""The held-out loss, document by document."""

import numpy as np
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


def test_the_clean_loss_is_that_of_the_clean_documents(model, prepared):
    clean = {
        "long": np.array([True, False, True]),
        "short": np.zeros(len(prepared.held_out["short"]), bool),
    }
    found = document_losses(model, prepared, **ROWS)["long"]
    results = evaluate_domains(model, prepared, **ROWS, clean=clean)
    kept = results["long"].clean
    assert kept is not None
    assert kept.tokens == 39
    assert kept.loss == pytest.approx((found.nats[0] + found.nats[2]) / 39, rel=1e-5)
    assert results["short"].clean is None
    whole = evaluate_domains(model, prepared, **ROWS)
    assert {name: result._replace(clean=None) for name, result in results.items()} == whole


def test_documents_that_were_not_measured_are_left_out(model, prepared):
    found = document_losses(model, prepared, **{**ROWS, "max_tokens": 8}, domains=["long"])
    assert found["long"].tokens.tolist() == [8]
