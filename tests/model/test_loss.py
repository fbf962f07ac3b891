"""Fused losses against the definition, which keeps the logits and leaves the rest to autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glam import kernels
from glam.model import loss as loss_module
from glam.model.loss import (
    FusedLosses,
    TracedLosses,
    compiled_softmax,
    plain_losses,
    softmax_losses,
    token_losses,
)


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


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("at_once", [2**25, 20 * 31])  # in one piece, and in uneven ones
def test_a_compiled_softmax_gives_the_same_losses_and_gradients(cap, at_once, monkeypatch):
    monkeypatch.setattr(loss_module, "LOGITS_AT_ONCE", at_once)
    softmax = compiled_softmax(backend="aot_eager")
    x, w = torch.randn(50, 8, dtype=torch.float64), torch.randn(31, 8, dtype=torch.float64)
    targets = torch.randint(0, 31, (50,))

    def compiled(x, w, targets, cap):
        return token_losses(x, w, targets, cap, softmax=softmax)

    torch.testing.assert_close(
        results(compiled, x, w, targets, cap), results(plain, x, w, targets, cap)
    )


def test_without_gradients_nothing_is_compiled():
    def refuse(*inputs):
        raise AssertionError("compiled")

    x, w = torch.randn(20, 8, dtype=torch.float64), torch.randn(31, 8, dtype=torch.float64)
    targets = torch.randint(0, 31, (20,))
    found = token_losses(x, w, targets, None, softmax=refuse)
    torch.testing.assert_close(found.each, plain_losses(x, w, targets, None))


@pytest.mark.parametrize(("at_once", "in_cache"), [(5 * 31, 2 * 31), (1, 1), (64 * 31, 7)])
def test_losses_do_not_depend_on_the_size_of_pieces(at_once, in_cache, monkeypatch):
    x, w = torch.randn(64, 8, dtype=torch.float64), torch.randn(31, 8, dtype=torch.float64)
    targets = torch.randint(0, 31, (64,))
    whole = results(token_losses, x, w, targets, None)
    monkeypatch.setattr(loss_module, "LOGITS_AT_ONCE", at_once)
    monkeypatch.setattr(loss_module, "LOGITS_IN_CACHE", in_cache)
    torch.testing.assert_close(results(token_losses, x, w, targets, None), whole)


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize(("groups", "pieces"), [(1, 1), (4, 1), (1, 8), (4, 4), (16, 4)])
def test_losses_for_xla_are_the_same_however_they_are_split(groups, pieces, cap):
    def traced(x, w, targets, cap):
        return TracedLosses.apply(x, w, targets, cap, groups, pieces)

    x, w = torch.randn(64, 8, dtype=torch.float64), torch.randn(31, 8, dtype=torch.float64)
    targets = torch.randint(0, 31, (64,))
    torch.testing.assert_close(
        results(traced, x, w, targets, cap), results(plain, x, w, targets, cap)
    )


@pytest.mark.parametrize("at_once", [2**25, 20 * 50])
def test_losses_in_bfloat16_are_as_close_to_float64_as_the_definition(at_once, monkeypatch):
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


def test_a_second_backward_pass_is_refused():
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


def of_logits(logits, targets, cap=None):
    """The losses, and the gradients of the logits that are of their mean."""
    x = logits.clone().requires_grad_()
    mean, each = token_losses(x, torch.eye(logits.shape[1]), targets, cap)
    return each, torch.autograd.grad(mean, x)[0]


def of_logits_in_float64(logits, targets, cap=None):
    x = logits.double().requires_grad_()
    wide = x if cap is None else cap * torch.tanh(x / cap)
    each = torch.nn.functional.cross_entropy(wide, targets, reduction="none")
    return each.detach(), torch.autograd.grad(each.mean(), x)[0]


def assert_as_in_float64(logits, targets, cap, size):
    """`size` is that of the largest logit, to whose rounding a loss is known."""
    losses, gradient = of_logits(logits, targets, cap)
    exact = of_logits_in_float64(logits, targets, cap)
    torch.testing.assert_close(losses.double(), exact[0], rtol=2e-6, atol=2e-6 * max(1, size))
    rtol = 2e-6 if logits.dtype == torch.float32 else 2**-7
    torch.testing.assert_close(gradient.double(), exact[1], rtol=rtol, atol=5e-6 / len(logits))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    V=st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33, 96, 1009, 1024]),
    cap=st.sampled_from([None, 0.5, 5.0, 30.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    size=st.sampled_from([1e-3, 1.0, 20.0]),
)
def test_any_vocabulary_and_number_of_tokens_is_as_in_float64(rows, V, cap, dtype, size):
    logits, targets = (size * torch.randn(rows, V)).to(dtype), torch.randint(0, V, (rows,))
    assert_as_in_float64(logits, targets, cap, size)


@pytest.mark.parametrize("cap", [None, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_enormous_logits_have_finite_losses_and_gradients(dtype, cap):
    for V in (33, 64):
        logits = 1e4 * torch.randint(-1, 2, (20, V)).to(dtype)
        logits[0], logits[1] = 1e4, -1e4
        assert_as_in_float64(logits, torch.randint(0, V, (20,)), cap, 1e4 if cap is None else cap)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_only_token_of_a_vocabulary_costs_nothing(dtype):
    losses, gradient = of_logits(torch.randn(5, 1).to(dtype), torch.zeros(5, dtype=torch.int64))
    assert not losses.any()
    assert not gradient.any()


@pytest.mark.parametrize("cap", [None, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("at", [0, 5, 16])
def test_a_nan_logit_spoils_its_token_alone(at, dtype, cap):
    logits, losses = torch.randn(3, 17).to(dtype), torch.empty(3)
    logits[1, at] = torch.nan
    loss_module._cross_entropy(logits, torch.tensor([5, 5, 5]), cap, True, losses, softmax_losses)
    assert losses.isnan().tolist() == [False, True, False]
    assert logits.isnan().all(1).tolist() == [False, True, False]
    assert logits[[0, 2]].isfinite().all()


@pytest.mark.usefixtures("kernels_here")
@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("target", [-1, -100, 31, 2**40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [8, 32])
def test_a_target_outside_the_vocabulary_is_refused(width, dtype, target, learns):
    x = torch.randn(4, width).to(dtype).requires_grad_(learns)
    with pytest.raises(IndexError, match="not among the 31 tokens"):
        token_losses(x, torch.randn(31, width), torch.tensor([1, 2, target, 3]), None)


def test_weights_may_be_narrower_than_the_tokens():
    x, w, targets = torch.randn(20, 8), torch.randn(31, 8).bfloat16(), torch.randint(0, 31, (20,))
    exact = results(plain, x.double(), w.double(), targets, None)
    for got, expected in zip(results(token_losses, x, w, targets, None), exact, strict=True):
        assert (got.double() - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_tokens_have_no_mean_and_change_nothing(dtype):
    x, w = torch.zeros(0, 32, dtype=dtype), torch.randn(31, 32, requires_grad=True)
    losses = token_losses(x, w, torch.zeros(0, dtype=torch.int64), None)
    losses.mean.backward()
    assert losses.mean.isnan()
    assert losses.each.shape == (0,)
    assert not w.grad.any()


def test_targets_may_have_any_strides():
    x, w, targets = torch.randn(6, 8), torch.randn(31, 8), torch.randint(0, 31, (6, 2))
    torch.testing.assert_close(
        results(token_losses, x, w, targets[:, 1], None),
        results(token_losses, x, w, targets[:, 1].clone(), None),
    )


def distances(form, x, w, targets, cap):
    """Of losses and gradients from the definition in float64, on the same narrow numbers."""
    exact = results(plain, x.double(), w.to(x.dtype).double(), targets, cap)
    made = results(form, x, w, targets, cap)
    return [(a.double() - b).norm() / b.norm() for a, b in zip(made, exact, strict=True)]


needs_tiles = pytest.mark.skipif(
    not kernels.has("output_loss_bf16"), reason="no tiles (AMX), or no compiler"
)


@needs_tiles
@settings(max_examples=60, deadline=None)
@given(
    tokens=st.sampled_from([1, 31, 32, 65, 256, 257, 600]),
    width=st.sampled_from([32, 96, 512, 800]),
    V=st.sampled_from([1, 17, 127, 128, 129, 400, 2100]),
    cap=st.sampled_from([None, 3.0, 30.0]),
    weights=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_the_kernel_never_rounds_logits(tokens, width, V, cap, weights):
    x, targets = torch.randn(tokens, width).bfloat16(), torch.randint(0, V, (tokens,))
    w = (torch.randn(V, width) * 2 * width**-0.5).to(weights)
    loss, mean, d_x, d_w = distances(token_losses, x, w, targets, cap)
    if V > 1:
        assert max(loss, mean) < 1e-5
        assert d_x < 0.006
        assert d_w < (0.003 if weights == torch.float32 and tokens > 1 else 0.006)


@needs_tiles
@pytest.mark.parametrize("cap", [None, 5.0])
def test_the_kernel_does_not_depend_on_the_threads(cap):
    x, w = torch.randn(700, 96).bfloat16(), torch.randn(1100, 96)
    targets, before = torch.randint(0, 1100, (700,)), torch.get_num_threads()
    made = list[list[torch.Tensor]]()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made.append(results(token_losses, x, w, targets, cap))
    finally:
        torch.set_num_threads(before)
    for one, two, three in zip(*made, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


@needs_tiles
def test_in_the_kernel_a_nan_spoils_its_token_alone():
    x, w, targets = torch.randn(70, 32).bfloat16(), torch.randn(200, 32), torch.arange(70)
    x[40, 7] = torch.nan
    x = x.requires_grad_()
    losses = token_losses(x, w, targets, None)
    losses.mean.backward()
    assert losses.each.isnan().nonzero().flatten().tolist() == [40]
    assert x.grad.isnan().any(1).nonzero().flatten().tolist() == [40]


@needs_tiles
@pytest.mark.parametrize("cap", [None, 300.0])
@pytest.mark.parametrize("shift", [-94.5, -271.0, -1e3, 1e3])
def test_in_the_kernel_only_differences_of_logits_count(shift, cap):
    x, w = torch.zeros(40, 32).bfloat16(), torch.randn(300, 32).bfloat16()
    x[:, 0], w[:, 0], x[:, 1:] = 1, shift, torch.randn(40, 31)
    targets = torch.randint(0, 300, (40,))
    made = results(token_losses, x, w, targets, cap)
    exact = results(plain, x.double(), w.double(), targets, cap)
    for got, expected in zip(made, exact, strict=True):
        assert got.isfinite().all()
        # Not of the column that shifts: a sum of narrow numbers that should be 0.
        got, expected = (g[:, 1:] if g.ndim == 2 else g for g in (got, expected))
        assert (got.double() - expected).norm() < 0.01 * expected.norm()


@needs_tiles
def test_in_the_kernel_a_capped_infinity_has_finite_gradients():
    x, w = torch.randn(40, 64).bfloat16(), torch.randn(300, 64)
    w[3, 5] = torch.inf
    targets = torch.randint(0, 300, (40,))
    losses, mean, _, d_w = results(token_losses, x, w, targets, 30.0)
    assert losses.isfinite().all()
    assert mean.isfinite()
    assert d_w.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(64, 32, 40), (32, 64, 40), (32, 32, 10), (32, 32, 41)])
def test_shapes_that_do_not_fit_are_refused(sizes, dtype):
    of_x, of_w, tokens = sizes
    x, w = torch.randn(40, of_x).to(dtype), torch.randn(300, of_w)
    with pytest.raises(ValueError, match=r"x \[T, M\], w \[V, M\] and targets \[T\]"):
        FusedLosses.apply(x, w, torch.zeros(tokens, dtype=torch.int64), None, True, softmax_losses)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_and_weights_may_have_any_strides(dtype):
    x, w, targets = torch.randn(64, 40).to(dtype).t(), torch.randn(64, 300).t(), torch.arange(40)
    for got, expected in zip(
        results(token_losses, x, w, targets.int(), None),
        results(token_losses, x.contiguous(), w.contiguous(), targets, None),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)
