import math

import pytest
import torch

from glam.evaluation import evaluate_domains, mean_loss

SIZES = {"sequence_length": 64, "batch_size": 3}


def by_document(model, encoded):
    """Each document alone: nats, tokens (the end of the document is one) and bytes."""
    nats = tokens = num_bytes = 0
    for index in range(len(encoded)):
        inputs = torch.tensor(encoded.document(index).astype(int))[None]
        targets = torch.cat([inputs[0, 1:], torch.tensor([1])])
        nats += torch.nn.functional.cross_entropy(
            model(inputs).logits[0], targets, reduction="sum"
        ).item()
        tokens += len(targets)
        num_bytes += len(targets) - 1
    return nats, tokens, num_bytes


def test_the_loss_of_a_domain_is_that_of_its_documents_one_by_one(model, prepared):
    results = evaluate_domains(model, prepared, max_tokens=10_000, **SIZES)
    assert list(results) == ["long", "short"]
    model.eval()
    with torch.no_grad():
        for domain, result in results.items():
            nats, tokens, num_bytes = by_document(model, prepared.held_out[domain])
            assert result.loss == pytest.approx(nats / tokens, rel=1e-5)
            assert (result.tokens, result.bytes) == (tokens, num_bytes)
            expected = nats / math.log(2) / num_bytes
            assert result.bits_per_byte == pytest.approx(expected, rel=1e-5)


def test_every_domain_counts_the_same_in_the_mean(model, prepared):
    results = evaluate_domains(model, prepared, max_tokens=10_000, **SIZES)
    long, short = results["long"], results["short"]
    assert mean_loss(results) == (long.loss + short.loss) / 2


def test_no_more_tokens_are_read_than_asked_for(model, prepared):
    sizes = {"sequence_length": 16, "batch_size": 2}
    results = evaluate_domains(model, prepared, max_tokens=32, **sizes)
    assert results["long"].tokens == 32


def test_shares_of_a_layer_sum_to_one(model, prepared):
    for result in evaluate_domains(model, prepared, max_tokens=10_000, **SIZES).values():
        assert len(result.shares) == 1
        assert len(result.shares[0]) == model.config.num_experts
        assert sum(result.shares[0]) == pytest.approx(1)


def test_evaluation_leaves_mode_gradients_and_generators_as_they_were(model, prepared):
    model.config.router.second_policy = "random"
    before = torch.get_rng_state()
    evaluate_domains(model.train(), prepared, max_tokens=64, **SIZES)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())
