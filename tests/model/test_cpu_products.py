"""Feed-forwards and linear maps by kernels against their definitions in float64."""

import pytest
import torch
from torch.nn import functional

from glam import kernels
from glam.model.cpu_products import feed_forward, linear, products_supported
from glam.model.feed_forward import FeedForward, GatedFeedForward

pytestmark = pytest.mark.usefixtures("kernels_here")
# Rows, width, hidden units: less than a vector, ragged, several blocks, and a large weight, whose
# blocks have more rows.
SIZES = [(1, 1, 1), (5, 7, 3), (300, 64, 256), (1000, 40, 50), (700, 300, 520)]


def weights(M: int, H: int, *, gated: bool) -> list[torch.Tensor | None]:
    w_gate = torch.randn(M, H) * M**-0.5 if gated else None
    return [w_gate, torch.randn(M, H) * M**-0.5, torch.randn(H, M) * H**-0.5]


def definition(x, w_gate, w_in, w_out):
    if w_gate is None:
        return functional.gelu(x @ w_in) @ w_out
    return (functional.gelu(x @ w_gate) * (x @ w_in)) @ w_out


def with_gradients(form, x, *given):
    """The output and the gradients of an arbitrary function of it."""
    inputs = [None if t is None else t.clone().requires_grad_() for t in (x, *given)]
    y = form(*inputs)
    weight = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).to(y.dtype).view_as(y)
    wanted = [t for t in inputs if t is not None]
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), wanted)]


def assert_close(found, exact):
    for got, expected in zip(found, exact, strict=True):
        assert got.shape == expected.shape
        error = (got.double() - expected).abs().max()
        assert error <= 2e-6 * expected.abs().max() * max(1, len(expected)) ** 0.5 + 1e-7


def wide(tensors):
    return [None if t is None else t.double() for t in tensors]


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(("rows", "M", "H"), SIZES)
def test_a_feed_forward_of_any_size_is_its_definition(rows, M, H, gated):
    given = [torch.randn(rows, M), *weights(M, H, gated=gated)]
    exact = with_gradients(definition, *wide(given))
    assert_close(with_gradients(feed_forward, *given), exact)


@pytest.mark.parametrize(("rows", "K", "N"), SIZES)
def test_a_linear_map_of_any_size_is_its_definition(rows, K, N):
    given = [torch.randn(rows, K), torch.randn(K, N) * K**-0.5]
    exact = with_gradients(torch.matmul, *wide(given))
    assert_close(with_gradients(linear, *given), exact)


@pytest.mark.parametrize("gated", [False, True])
def test_digits_do_not_depend_on_the_threads(gated):
    given = [torch.randn(1000, 40), *weights(40, 50, gated=gated)]
    before, made = torch.get_num_threads(), list[list[torch.Tensor]]()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            made.append(with_gradients(feed_forward, *given))
            made[-1] += with_gradients(linear, given[0], given[2])
    finally:
        torch.set_num_threads(before)
    for other in made[1:]:
        assert all(torch.equal(*pair) for pair in zip(made[0], other, strict=True))


def test_the_digits_of_a_row_do_not_depend_on_the_other_rows():
    x, w = torch.randn(1000, 40), torch.randn(40, 50)
    assert torch.equal(linear(x, w)[:7], linear(x[:7], w))
    given = weights(40, 50, gated=True)
    assert torch.equal(feed_forward(x, *given)[:7], feed_forward(x[:7], *given))


@pytest.mark.parametrize("layer", [FeedForward, GatedFeedForward])
def test_a_layer_takes_the_kernel_for_float32_alone(layer):
    made = layer(16, 24)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 5, 16)
    with kernels.switched_off():
        expected = made(x)
    assert "FeedForwardCpuKernel" in type(made(x).grad_fn).__name__
    torch.testing.assert_close(made(x), expected)
    assert not products_supported(x.double(), *made.parameters())
    assert not products_supported(x.bfloat16(), *made.parameters())
    assert not products_supported(x[:0], *made.parameters())
