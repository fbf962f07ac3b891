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
TILES = [(1, 32, 32), (5, 64, 96), (300, 32, 256), (1031, 96, 160)]  # of bfloat16
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


def assert_close_to_bfloat16(found, exact):
    """What is kept, the hidden units, their gradients and the result are rounded, each by up to
    2 ** -9 of a number, as by torch's operators."""
    for got, expected in zip(found, exact, strict=True):
        assert got.shape == expected.shape
        assert (got.double() - expected).abs().max() <= 2**-6 * expected.abs().max()


@pytest.fixture
def narrow_products():
    if not kernels.has_gemm(torch.bfloat16):
        pytest.skip("no products of our own in bfloat16 here")


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


@pytest.mark.usefixtures("narrow_products")
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(("rows", "M", "H"), TILES)
def test_a_feed_forward_in_bfloat16_is_its_definition(rows, M, H, gated):
    given = [torch.randn(rows, M).bfloat16(), *weights(M, H, gated=gated)]
    assert products_supported(given[0], *given[2:])
    found = with_gradients(feed_forward, *given)
    assert [t.dtype for t in found] == [torch.bfloat16] * 2 + [torch.float32] * (len(found) - 2)
    assert_close_to_bfloat16(found, with_gradients(definition, *wide(given)))


@pytest.mark.usefixtures("narrow_products")
@pytest.mark.parametrize(("rows", "K", "N"), TILES)
def test_a_linear_map_in_bfloat16_is_its_definition(rows, K, N):
    given = [torch.randn(rows, K).bfloat16(), torch.randn(K, N) * K**-0.5]
    assert products_supported(*given)
    found = with_gradients(linear, *given)
    assert [t.dtype for t in found] == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert_close_to_bfloat16(found, with_gradients(torch.matmul, *wide(given)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 33, 700])
def test_a_gradient_is_added_to_what_is_there(rows, dtype):
    if not kernels.has_gemm(dtype):
        pytest.skip("no products of our own here")
    x, d_y, w = (
        torch.randn(rows, 32).to(dtype),
        torch.randn(rows, 64).to(dtype),
        torch.zeros(32, 64),
    )
    before, d_x = torch.randn(32, 64), torch.empty_like(x)
    plain, added = torch.empty_like(w), before.clone()
    for d_w, add in ((plain, 0), (added, 1)):
        kernels.call("linear_backward", x, d_y, w, d_x, d_w, rows, 32, 64, add)
    torch.testing.assert_close(added, before + plain, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(plain, x.float().T @ d_y.float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gated", [False, True])
def test_digits_do_not_depend_on_the_threads(gated, dtype):
    if not kernels.has_gemm(dtype):
        pytest.skip("no products of our own here")
    M, H = (40, 50) if dtype == torch.float32 else (32, 96)
    given = [torch.randn(1000, M).to(dtype), *weights(M, H, gated=gated)]
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_digits_of_a_row_do_not_depend_on_the_other_rows(dtype):
    if not kernels.has_gemm(dtype):
        pytest.skip("no products of our own here")
    M, H = (40, 50) if dtype == torch.float32 else (32, 96)
    x, w = torch.randn(1000, M).to(dtype), torch.randn(M, H)
    assert torch.equal(linear(x, w)[:7], linear(x[:7], w))
    given = weights(M, H, gated=True)
    assert torch.equal(feed_forward(x, *given)[:7], feed_forward(x[:7], *given))


@pytest.mark.parametrize("layer", [FeedForward, GatedFeedForward])
def test_a_layer_takes_the_kernel_for_the_types_and_sizes_that_it_serves(layer):
    made = layer(16, 24)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 5, 16)
    with kernels.switched_off():
        expected = made(x)
    assert "FeedForwardCpuKernel" in type(made(x).grad_fn).__name__
    torch.testing.assert_close(made(x), expected)
    assert not products_supported(x.double(), *made.parameters())
    assert not products_supported(x.bfloat16(), *made.parameters())  # of no whole tiles
    narrow, wide_x = layer(32, 64), torch.randn(2, 5, 32).bfloat16()
    taken = kernels.has_gemm(torch.bfloat16)
    assert products_supported(wide_x, *narrow.parameters()) == taken
    assert not products_supported(wide_x, *(w.bfloat16() for w in narrow.parameters()))
    assert not products_supported(wide_x, torch.empty(512, 256))  # a large one
    assert not products_supported(x[:0], *made.parameters())
