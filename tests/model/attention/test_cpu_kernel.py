"""Heads one at a time against the definition of attention, in float64."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glam import kernels
from glam.model.attention.attention import document_mask, plain_attention
from glam.model.attention.cpu_kernel import head_attention, kernel_supported
from glam.model.attention.position import PositionBias


@pytest.fixture(autouse=True, params=[torch.float32, torch.bfloat16], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    if not kernels.has_gemm(request.param):
        pytest.skip("no products of our own here")
    return request.param


def position_of(heads: int, max_distance: int = 20) -> PositionBias:
    position = PositionBias(heads, 8, max_distance)
    torch.nn.init.normal_(position.bias_NR)
    return position


def plainly(qkv, position, mask):
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    q = q * qkv.shape[-1] ** -0.5
    return plain_attention(q, k, v, position(qkv.shape[1]), mask).transpose(1, 2)


def results(form, qkv, position, mask):
    """Outputs and the gradients of qkv and bias."""
    qkv = qkv.clone().requires_grad_()
    y = form(qkv, position, mask)
    weight = torch.linspace(-1, 1, y.numel()).bfloat16().to(y.dtype).view_as(y)
    return [y, *torch.autograd.grad((y * weight).sum(), [qkv, position.bias_NR])]


TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.03}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    length=st.integers(1, 200),
    width=st.sampled_from([1, 4, 16, 31, 32, 33, 48]),
    heads=st.integers(1, 3),
    max_distance=st.sampled_from([5, 31, 32, 33, 64, 100, 300]),
    packed=st.booleans(),
)
def test_heads_are_close_to_float64_for_any_size_window_and_packing(
    dtype, length, width, heads, max_distance, packed
):
    qkv = torch.randn(2, length, 3, heads, width).to(dtype)
    position = position_of(heads, max_distance)
    segments = torch.randint(0, 4, (2, length)).sort(1).values
    mask = document_mask(segments, dtype) if packed else None
    assert kernel_supported(qkv, position, mask)
    found = results(head_attention, qkv, position, mask)
    wide = None if mask is None else mask.double()
    exact = results(plainly, qkv.double(), position.double(), wide)
    for got, expected in zip(found, exact, strict=True):
        assert got.shape == expected.shape
        # A gradient may cancel to nothing; then it is as fine as what it was added up from.
        floor = TOLERANCE[dtype] / 3 * qkv.double().norm()
        assert (got.double() - expected).norm() <= TOLERANCE[dtype] * expected.norm() + floor


def test_a_masked_key_and_a_key_ahead_have_no_weight(dtype):
    qkv, position = torch.randn(1, 150, 3, 2, 5).to(dtype), position_of(2)
    mask = document_mask((torch.arange(150) >= 70).long()[None], dtype)
    one = head_attention(qkv, position, mask)
    other = qkv.clone()
    other[:, :70] = 1e3 * torch.randn(1, 70, 3, 2, 5)
    assert torch.equal(head_attention(other, position, mask)[:, 70:], one[:, 70:])
    for query in (69, 95, 96, 148):
        other = qkv.clone()
        other[:, query + 1 :] = 1e3 * torch.randn(1, 149 - query, 3, 2, 5)
        assert torch.equal(
            head_attention(other, position, mask)[:, : query + 1], one[:, : query + 1]
        )


def test_they_do_not_depend_on_the_threads(dtype):
    qkv, position = torch.randn(3, 100, 3, 3, 20).to(dtype), position_of(3)
    before, made = torch.get_num_threads(), list[list[torch.Tensor]]()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            made.append(results(head_attention, qkv, position, None))
    finally:
        torch.set_num_threads(before)
    for other in made[1:]:
        assert all(torch.equal(*pair) for pair in zip(made[0], other, strict=True))


def test_the_kernel_takes_these_types_and_no_other(dtype):
    qkv, position = torch.randn(1, 9, 3, 2, 4).to(dtype), position_of(2)
    assert kernel_supported(qkv, position, None)
    assert not kernel_supported(qkv.double(), position, None)
    assert not kernel_supported(qkv, position, torch.zeros(1, 9, 9, dtype=torch.float64))
    assert not kernel_supported(qkv, position_of(2).bfloat16(), None)
    with kernels.switched_off():
        assert not kernel_supported(qkv, position, None)
