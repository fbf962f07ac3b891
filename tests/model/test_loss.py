import pytest
import torch

from glam.model.loss import FusedLosses, plain_losses, token_losses


def results(form, x, w, targets):
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    losses = form(x, w, targets)
    weight = torch.linspace(0, 1, len(losses), dtype=losses.dtype)  # as a mask would weigh them
    return [losses, *torch.autograd.grad((losses * weight).sum(), [x, w])]


def plain(x, w, targets):
    return plain_losses(x, w, targets, None)


@pytest.mark.parametrize("tokens", [1, 64, 200])
def test_fused_losses_and_their_gradients_are_the_cross_entropy(tokens):
    x, w = torch.randn(tokens, 8, dtype=torch.float64), torch.randn(31, 8, dtype=torch.float64)
    targets = torch.randint(0, 31, (tokens,))
    torch.testing.assert_close(
        results(FusedLosses.apply, x, w, targets), results(plain, x, w, targets)
    )


def test_in_bfloat16_they_are_as_close_to_float64_as_the_plain_form():
    x, w = torch.randn(200, 16, dtype=torch.float64), torch.randn(50, 16, dtype=torch.float64)
    targets = torch.randint(0, 50, (200,))
    exact = results(plain, x, w, targets)
    for form in (FusedLosses.apply, plain):
        for got, expected in zip(
            results(form, x.bfloat16(), w.float(), targets), exact, strict=True
        ):
            assert (got.double() - expected).norm() < 0.01 * expected.norm()


def test_a_hopeless_token_has_a_finite_loss_and_gradient():
    x = torch.tensor([[300.0]], requires_grad=True)
    w = torch.tensor([[1.0], [-1.0]])
    losses = token_losses(x, w, torch.tensor([1]), None)
    losses.sum().backward()
    assert losses.tolist() == [600.0]
    assert x.grad.tolist() == [[2.0]]
