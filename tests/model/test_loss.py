"""Fused losses against the definition, which keeps the logits and leaves the rest to autograd."""

import pytest
import torch

from glam.model import loss as loss_module
from glam.model.loss import TracedLosses, plain_losses, token_losses


def results(form, x, w, targets, cap):
    """The losses, their mean and the gradients of a multiple of it."""
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    mean, each = form(x, w, targets, cap)
    return [each, mean, *torch.autograd.grad(3 * mean, [x, w])]


def plain(x, w, targets, cap):
    losses = plain_losses(x, w, targets, cap)
    return losses.mean(), losses.detach()


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("tokens", [1, 64, 200])
def test_losses_and_gradients_are_those_of_the_cross_entropy(tokens, cap):
    x, w = torch.randn(tokens, 8, dtype=torch.float64), torch.randn(31, 8, dtype=torch.float64)
    targets = torch.randint(0, 31, (tokens,))
    torch.testing.assert_close(
        results(token_losses, x, w, targets, cap), results(plain, x, w, targets, cap)
    )


@pytest.mark.parametrize(("at_once", "in_cache"), [(5 * 31, 2 * 31), (1, 1), (64 * 31, 7)])
def test_the_pieces_in_which_they_are_made_do_not_show(at_once, in_cache, monkeypatch):
    x, w = torch.randn(64, 8, dtype=torch.float64), torch.randn(31, 8, dtype=torch.float64)
    targets = torch.randint(0, 31, (64,))
    whole = results(token_losses, x, w, targets, None)
    monkeypatch.setattr(loss_module, "LOGITS_AT_ONCE", at_once)
    monkeypatch.setattr(loss_module, "LOGITS_IN_CACHE", in_cache)
    torch.testing.assert_close(results(token_losses, x, w, targets, None), whole)


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize(("groups", "pieces"), [(1, 1), (4, 1), (1, 8), (4, 4), (16, 4)])
def test_for_a_compiler_they_are_the_same_however_they_are_split(groups, pieces, cap):
    def traced(x, w, targets, cap):
        return TracedLosses.apply(x, w, targets, cap, groups, pieces)

    x, w = torch.randn(64, 8, dtype=torch.float64), torch.randn(31, 8, dtype=torch.float64)
    targets = torch.randint(0, 31, (64,))
    torch.testing.assert_close(
        results(traced, x, w, targets, cap), results(plain, x, w, targets, cap)
    )


@pytest.mark.parametrize("at_once", [2**25, 20 * 50])
def test_in_bfloat16_they_are_as_close_to_float64_as_the_plain_form(at_once, monkeypatch):
    monkeypatch.setattr(loss_module, "LOGITS_AT_ONCE", at_once)
    x, w = torch.randn(200, 16, dtype=torch.float64), torch.randn(50, 16, dtype=torch.float64)
    targets = torch.randint(0, 50, (200,))
    exact = results(plain, x, w, targets, None)
    for form in (token_losses, plain):
        for got, expected in zip(
            results(form, x.bfloat16(), w.float(), targets, None), exact, strict=True
        ):
            assert (got.double() - expected).norm() < 0.01 * expected.norm()


def test_without_gradients_the_losses_are_the_same():
    x, w = torch.randn(20, 8), torch.randn(31, 8, requires_grad=True)
    targets = torch.randint(0, 31, (20,))
    learning = token_losses(x, w, targets, None)
    with torch.no_grad():
        torch.testing.assert_close(token_losses(x, w, targets, None).each, learning.each)
    assert learning.mean.requires_grad
    assert not learning.each.requires_grad


def test_a_second_backward_is_refused_and_not_wrong():
    x, w = torch.randn(4, 8, requires_grad=True), torch.randn(31, 8)
    mean = token_losses(x, w, torch.tensor([1, 2, 3, 4]), None).mean
    mean.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        mean.backward()


def test_a_hopeless_token_has_a_finite_loss_and_gradient():
    x = torch.tensor([[300.0]], requires_grad=True)
    w = torch.tensor([[1.0], [-1.0]])
    losses = token_losses(x, w, torch.tensor([1]), None)
    losses.mean.backward()
    assert losses.each.tolist() == [600.0]
    assert x.grad.tolist() == [[2.0]]
