"""The experts of a layer as one function, forward and backward: rows gathered by expert, two
products with GELU between, and the gated sum back. What is kept for the backward pass is the first
product, and what came in. The rest is made again, or never needed: a gate's gradient is that of the
GELU's output times the output itself, so that the experts' own outputs may go."""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from glam import kernels
from glam.model.activations import gated_rows_backward, gelu_values
from glam.model.moe.experts import Experts
from glam.model.moe.permutation import SortedLayout
from glam.model.moe.routing import Routing
from glam.model.precision import at_least_float32


class FusedExperts(torch.autograd.Function):
    """`(x [T, M], gates [T, K], w_in [E, M, H], w_out [E, H, M], layout) -> y [T, M]`"""

    @staticmethod
    def forward(
        ctx: Any,
        x_TM: Tensor,
        gates_TK: Tensor,
        w_in_EMH: Tensor,
        w_out_EHM: Tensor,
        at: SortedLayout,
    ) -> Tensor:
        w_in, w_out = w_in_EMH.to(x_TM.dtype), w_out_EHM.to(x_TM.dtype)
        before = at.product(x_TM.index_select(0, at.token_of_row), w_in)
        y = at.product(gelu_values(before), w_out)
        ctx.save_for_backward(x_TM, gates_TK, w_in, w_out, before)
        ctx.at, ctx.weight_dtype = at, w_in_EMH.dtype
        return sum_of_choices(y, at.row_of_choice.view_as(gates_TK), gates_TK)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_TM, gates_TK, w_in, w_out, before = ctx.saved_tensors
        at: SortedLayout = ctx.at
        gates = gates_of_rows(gates_TK, at.row_of_choice, len(before))
        d_y = grads[0].index_select(0, at.token_of_row)
        d = at.transposed(d_y, w_out)
        hidden, d_gates = gated_rows_backward(before, gates, d)
        d_w_out = at.weight_gradient(hidden, d_y).to(ctx.weight_dtype)
        del hidden, d_y
        rows = x_TM.index_select(0, at.token_of_row)
        d_w_in = at.weight_gradient(rows, d).to(ctx.weight_dtype)
        d_x = sum_of_choices(at.transposed(d, w_in), at.row_of_choice.view_as(gates_TK))
        d_gates_TK = gates_of_choices(d_gates, at.row_of_choice, gates_TK)
        return d_x, d_gates_TK, d_w_in, d_w_out, None


def gates_of_rows(
    gates_TK: Float[Tensor, "T K"], row_of_choice: Int[Tensor, "choices"], num_rows: int
) -> Float[Tensor, "rows"]:
    """In float32 at least; 0 where no choice fills a row: nothing comes of it."""
    gates_TK = at_least_float32(gates_TK)
    return gates_TK.new_zeros(num_rows).scatter_(0, row_of_choice, gates_TK.flatten())


def gates_of_choices(
    gates: Float[Tensor, "rows"], row_of_choice: Int[Tensor, "choices"], like_TK: Tensor
) -> Float[Tensor, "T K"]:
    """The other way, in a type."""
    return gates.index_select(0, row_of_choice).view_as(like_TK).to(like_TK.dtype)


def sum_of_choices(
    rows: Float[Tensor, "rows M"],
    row_of_choice: Int[Tensor, "T K"],
    gates_TK: Float[Tensor, "T K"] | None = None,
) -> Float[Tensor, "T M"]:
    """Of each token, weighted by its gates where there are any."""
    (T, K), M = row_of_choice.shape, rows.shape[1]
    if kernels.supported(rows):
        y = rows.new_empty(T, M)
        gates = None if gates_TK is None else gates_TK.float().contiguous()
        kernels.call("sum_of_choices", rows, row_of_choice, gates, y, T, K, M)
        return y
    y_TKM = rows.index_select(0, row_of_choice.flatten()).view(T, K, M)
    if gates_TK is not None:
        y_TKM.mul_(gates_TK.to(rows.dtype)[:, :, None])
    return y_TKM.sum(1)


def experts_grouped_mm(
    x_TM: Float[Tensor, "T M"], routing: Routing, experts: Experts, layout: SortedLayout
) -> Float[Tensor, "T M"]:
    weights = (experts.w_in_EMH, experts.w_out_EHM)
    y = FusedExperts.apply(x_TM, routing.gates, *weights, layout)  # pyright: ignore
    return cast(Tensor, y)
