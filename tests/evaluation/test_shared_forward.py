"""A tree of texts gives what each text by itself gives."""

import pytest
import torch

from glam.evaluation import shared_forward
from glam.evaluation.shared_forward import judge

CONTEXT = tuple(range(2, 22))
ROWS = [
    (CONTEXT[:at] + choice[:-1], choice)
    for at in (3, 12, 20)
    for choice in [(30,), (31, 32), (33, 34, 35, 36, 37, 38)]
]
ROWS += [((5,), (6,)), ((5, 6), (6, 7)), (CONTEXT, (*CONTEXT[3:], 9))]


def alone(model, inputs, targets):
    logits = model(torch.tensor([inputs])).logits[0, -len(targets) :]
    wanted = torch.tensor(targets)
    nats = logits.log_softmax(-1).gather(-1, wanted[:, None]).sum().item()
    return nats, bool((logits.argmax(-1) == wanted).all())


@pytest.mark.parametrize("most", [1 << 25, 60])
def test_a_tree_of_texts_is_exact(model, monkeypatch, most):
    model = model.double().eval()
    model.dtype = torch.float64
    for layer in model.layers:  # which begins as zeros
        torch.nn.init.normal_(layer.attention.position.bias_NR)
    monkeypatch.setattr(shared_forward, "MOST_WEIGHTS", most)
    monkeypatch.setattr(shared_forward, "MOST_LOGITS", most)
    for (nats, is_greedy), row in zip(judge(model, ROWS, 64), ROWS, strict=True):
        expected, greedy = alone(model, *row)
        assert nats == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert is_greedy == greedy


def test_the_likeliest_tokens_are_said_to_be(model):
    model.eval()
    best = tuple(model(torch.tensor([CONTEXT])).logits[0, -2:].argmax(-1).tolist())
    [(_, is_greedy), (_, other)] = judge(model, [(CONTEXT, best), (CONTEXT, (best[0], 39))], 64)
    assert is_greedy
    assert other == (best[1] == 39)
