"""Kernels as operators of torch: what they change is what they say."""

import pytest
import torch
from torch.profiler import profile

from glam import kernels
from glam.kernels import operators
from glam.kernels.contracts import WRITTEN

pytestmark = pytest.mark.skipif(kernels.library() is None, reason="no C compiler")
T, M, H, E, K = 6, 8, 12, 4, 2


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(*shape, dtype=dtype)


def given():
    torch.manual_seed(0)
    x, w_in, w_out = torch.randn(T, M), torch.randn(M, H), torch.randn(H, M)
    logits, hidden = torch.randn(T, E), (T, kernels.TILE)
    choices = torch.randint(E, (T, K))
    first = zeros(E, dtype=torch.int64)
    first[1:] = torch.bincount(choices.flatten(), minlength=E).cumsum(0)[:-1]
    rows = zeros(T * K, dtype=torch.int64)
    return {
        "gelu": (x, zeros(T, M), x.numel()),
        "rms_norm": (x, torch.ones(M), zeros(T, M), zeros(T), T, M, 1e-6),
        "linear": (x, w_in, zeros(T, H), T, M, H),
        "feed_forward": (
            *(x, None, w_in, w_out, None, zeros(*hidden), zeros(T, M)),
            *(T, M, H),
        ),
        "route": (
            *(logits, torch.randn(E), zeros(T, K, dtype=torch.int64), zeros(T, K), zeros(T, E)),
            *(T, E, K, 1),
        ),
        "sort_by_expert": (choices, first, rows, rows.clone(), T, K, E, T * K),
    }


def given_narrow():
    """Of the same kernels in bfloat16, whose widths are multiples of TILE."""
    torch.manual_seed(0)
    M, H = kernels.TILE, 2 * kernels.TILE
    x, d_y, w = torch.randn(T, M).bfloat16(), torch.randn(T, H).bfloat16(), torch.randn(M, H)
    y, hidden, w_out = torch.zeros_like(x), torch.zeros_like(d_y), torch.randn(H, M)
    return {
        "linear": (x, w, hidden, T, M, H),
        "linear_backward": (x, d_y, w, y, torch.zeros_like(w), T, M, H, 1),
        "feed_forward": (x, w, w + 1, w_out, hidden, hidden.clone(), y, T, M, H),
        "feed_forward_backward": (
            *(x, x.clone(), w, w + 1, w_out, d_y, d_y.clone(), y),
            *(torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(w_out), T, M, H),
        ),
    }


def test_the_schema_says_what_is_written_and_what_may_be_left_out():
    assert operators.schema("linear") == (
        "linear(Tensor a0, Tensor a1, Tensor(a2!) a2, SymInt a3, SymInt a4, SymInt a5) -> ()"
    )
    assert "Tensor? a1, Tensor a2" in operators.schema("feed_forward")


@pytest.mark.parametrize("name", WRITTEN)
def test_every_kernel_of_training_is_an_operator(name):
    assert str(getattr(torch.ops.glam, name).default._schema) == f"glam::{operators.schema(name)}"


@pytest.mark.parametrize("name", given())
def test_an_operator_passes_the_checks_of_torch(name):
    operator = getattr(torch.ops.glam, name).default
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(operator, given()[name], test_utils=checks)


@pytest.mark.skipif(not kernels.has_gemm(torch.bfloat16), reason="no such products here")
@pytest.mark.parametrize("name", given_narrow())
def test_an_operator_passes_them_in_bfloat16(name):
    operator = getattr(torch.ops.glam, name).default
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(operator, given_narrow()[name], test_utils=checks)


def test_a_kernel_that_fails_is_an_error_of_its_operator():
    with pytest.raises(RuntimeError, match=r"glam::fails failed with 1"):
        operators._raising("fails", lambda name, *_: 1)(torch.zeros(1))


def test_a_profile_names_the_kernels():
    with profile() as found:
        kernels.call("gelu", torch.zeros(4), torch.zeros(4), 4)
    assert "glam::gelu" in {event.key for event in found.key_averages()}
