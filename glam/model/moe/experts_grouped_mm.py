"""Experts by grouped products (torch's `grouped_mm`): rows gathered by expert, two products with
GELU between, and the gated sum of outputs.

The backward pass keeps the inputs and the pre-activations. The gradient of a gate is the dot
product of the GELU's output with its ungated gradient, so that the outputs of the experts are not
kept.
"""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from glam import kernels
from glam.model.activations import gated_rows_backward, gelu_values
from glam.model.moe.experts import Experts
from glam.model.moe.permutation import Permutation
from glam.model.moe.routing import Routing
from glam.model.precision import at_least_float32


class ExpertsGroupedMM(torch.autograd.Function):
    """`(x [T, M], gates [T, K], w_in [E, M, H], w_out [E, H, M], layout) -> y [T, M]`"""

    @staticmethod
    def forward(
        ctx: Any,
        x_TM: Tensor,
        gates_TK: Tensor,
        w_in_EMH: Tensor,
        w_out_EHM: Tensor,
        layout: Permutation,
    ) -> Tensor:
        w_in, w_out = w_in_EMH.to(x_TM.dtype), w_out_EHM.to(x_TM.dtype)
        pre_activation = layout.product(x_TM.index_select(0, layout.token_of_row), w_in)
        y = layout.product(gelu_values(pre_activation), w_out)
        ctx.save_for_backward(x_TM, gates_TK, w_in, w_out, pre_activation)
        ctx.layout, ctx.weight_dtype = layout, w_in_EMH.dtype
        return sum_of_choices(y, layout.row_of_choice.view_as(gates_TK), gates_TK)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_TM, gates_TK, w_in, w_out, pre_activation = ctx.saved_tensors
        layout: Permutation = ctx.layout
        gates = gates_of_rows(gates_TK, layout.row_of_choice, len(pre_activation))
        d_y = grads[0].index_select(0, layout.token_of_row)
        d = layout.transposed(d_y, w_out)
        hidden, d_gates = gated_rows_backward(pre_activation, gates, d)
        d_w_out = layout.weight_gradient(hidden, d_y).to(ctx.weight_dtype)
        del hidden, d_y
        rows = x_TM.index_select(0, layout.token_of_row)
        d_w_in = layout.weight_gradient(rows, d).to(ctx.weight_dtype)
        d_x = sum_of_choices(layout.transposed(d, w_in), layout.row_of_choice.view_as(gates_TK))
        d_gates_TK = gates_of_choices(d_gates, layout.row_of_choice, gates_TK)
        return d_x, d_gates_TK, d_w_in, d_w_out, None


def gates_of_rows(
    gates_TK: Float[Tensor, "T K"], row_of_choice: Int[Tensor, "choices"], num_rows: int
) -> Float[Tensor, "rows"]:
    """The gate of every row, in float32 at least; 0 for a padding row."""
    gates_TK = at_least_float32(gates_TK)
    return gates_TK.new_zeros(num_rows).scatter_(0, row_of_choice, gates_TK.flatten())


def gates_of_choices(
    gates: Float[Tensor, "rows"], row_of_choice: Int[Tensor, "choices"], like_TK: Tensor
) -> Float[Tensor, "T K"]:
    """Inverse of `gates_of_rows`, in the type of `like_TK`."""
    return gates.index_select(0, row_of_choice).view_as(like_TK).to(like_TK.dtype)


def sum_of_choices(
    rows: Float[Tensor, "rows M"],
    row_of_choice: Int[Tensor, "T K"],
    gates_TK: Float[Tensor, "T K"] | None = None,
) -> Float[Tensor, "T M"]:
    """Combine: the sum of the rows of each token's choices, weighted by `gates_TK` if given."""
    (T, K), M = row_of_choice.shape, rows.shape[1]
    if kernels.supported(rows):
        y = rows.new_empty(T, M)
        gates = None if gates_TK is None else gates_TK.float().contiguous()
        kernels.call("sum_of_choices", rows, row_of_choice, gates, y, T, K, M, len(rows))
        return y
    y_TKM = rows.index_select(0, row_of_choice.flatten()).view(T, K, M)
    if gates_TK is not None:
        y_TKM.mul_(gates_TK.to(rows.dtype)[:, :, None])
    return y_TKM.sum(1)


def experts_grouped_mm(
    x_TM: Float[Tensor, "T M"], routing: Routing, experts: Experts, layout: Permutation
) -> Float[Tensor, "T M"]:
    """The gated sum of the experts' outputs."""
    weights = (experts.w_in_EMH, experts.w_out_EHM)
    y = ExpertsGroupedMM.apply(x_TM, routing.gates, *weights, layout)  # pyright: ignore
    return cast(Tensor, y)
