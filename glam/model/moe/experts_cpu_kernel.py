"""Experts on a CPU that has products for their type: a kernel of our own for the whole of an
expert's way, forward and backward. Products of torch's cost small ones more in calls than in
arithmetic, and in bfloat16 large ones (seen up to 1,024 by 4,096) in traffic between them."""

from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from glam import kernels
from glam.model.gradient_pool import empty_like_pooled
from glam.model.moe.experts import Experts
from glam.model.moe.experts_grouped_mm import gates_of_choices, gates_of_rows, sum_of_choices
from glam.model.moe.permutation import SortedLayout, permutation, up_to_multiple
from glam.model.moe.routing import Routing

ROWS = {torch.bfloat16: 16, torch.float32: 8}  # products take multiples of it
LARGEST = {torch.bfloat16: 2**62, torch.float32: 2**15}  # matrix for which it is the fastest form


def suits(x: Tensor, experts: Experts) -> bool:
    """Whether the kernel is there for these, and the fastest form."""
    w = experts.w_in_EMH
    _, M, H = w.shape
    served = kernels.supported(x, w) and w.dtype in (x.dtype, torch.float32)
    fits = M % kernels.TILE == H % kernels.TILE == 0
    return served and fits and LARGEST[x.dtype] >= M * H and kernels.has_gemm(x.dtype)


def padded_permutation(
    experts_TK: Int[Tensor, "T K"], num_experts: int, dtype: torch.dtype
) -> SortedLayout:
    """For rows in `dtype`."""
    return permutation(experts_TK, num_experts, partial(up_to_multiple, of=ROWS[dtype]))


class WholeExperts(torch.autograd.Function):
    """`(x [T, M], gates [T, K], w_in [E, M, H], w_out [E, H, M], layout) -> y [T, M]`"""

    @staticmethod
    def forward(
        ctx: Any, x_TM: Tensor, gates_TK: Tensor, w_in: Tensor, w_out: Tensor, at: SortedLayout
    ) -> Tensor:
        x_TM, w_in, w_out = x_TM.contiguous(), w_in.contiguous(), w_out.contiguous()
        sizes, num_rows = w_in.shape, len(at.token_of_row)
        before, y = x_TM.new_empty(num_rows, sizes[2]), x_TM.new_empty(num_rows, sizes[1])
        where, wide = (at.first_rows(), at.token_of_row), w_in.dtype == torch.float32
        if kernels.call("experts_forward", x_TM, w_in, w_out, *where, before, y, *sizes, wide):
            raise MemoryError("no memory for the rows of an expert")
        ctx.save_for_backward(x_TM, gates_TK, w_in, w_out, before)
        ctx.at = at
        return sum_of_choices(y, at.row_of_choice.view_as(gates_TK), gates_TK)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_TM, gates_TK, w_in, w_out, before = ctx.saved_tensors
        at: SortedLayout = ctx.at
        gates = gates_of_rows(gates_TK, at.row_of_choice, len(before))
        d_rows, d_gates = before.new_empty(len(before), x_TM.shape[1]), torch.empty_like(gates)
        d_w_in, d_w_out = empty_like_pooled(w_in), empty_like_pooled(w_out)
        given = (grads[0].contiguous(), w_in, w_out, at.first_rows(), at.token_of_row)
        made = (before, gates, d_rows, d_gates, d_w_in, d_w_out)
        sizes = (*w_in.shape, w_in.dtype == torch.float32)
        if kernels.call("experts_backward", x_TM, *given, *made, *sizes):
            raise MemoryError("no memory for the rows of an expert")
        d_x = sum_of_choices(d_rows, at.row_of_choice.view_as(gates_TK))
        d_gates_TK = gates_of_choices(d_gates, at.row_of_choice, gates_TK)
        return d_x, d_gates_TK, d_w_in, d_w_out, None


def experts_cpu_kernel(
    x_TM: Float[Tensor, "T M"], routing: Routing, experts: Experts, layout: SortedLayout
) -> Float[Tensor, "T M"]:
    """For a layout of `padded_permutation`."""
    weights = (experts.w_in_EMH, experts.w_out_EHM)
    y = WholeExperts.apply(x_TM, routing.gates, *weights, layout)  # pyright: ignore
    return cast(Tensor, y)
