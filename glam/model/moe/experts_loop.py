"""Experts in a loop, for large experts on a CPU: each goes from its rows to its output before
the next, so that intermediate values stay in the cache and one expert's weights are cast at a
time. Only the pre-activations of all rows are kept for the backward pass."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from glam.model.activations import gated_rows_backward, gelu_values
from glam.model.gradient_pool import empty_like_pooled
from glam.model.moe.experts import Experts
from glam.model.moe.experts_grouped_mm import gates_of_choices, gates_of_rows, sum_of_choices
from glam.model.moe.permutation import Permutation
from glam.model.moe.routing import Routing


class ExpertsLoop(torch.autograd.Function):
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
        num_rows, (M, H) = len(layout.token_of_row), w_in_EMH.shape[1:]
        pre_activation, y = x_TM.new_empty(num_rows, H), x_TM.new_empty(num_rows, M)
        w_in, w_out = (cast_matrices(w, x_TM.dtype) for w in (w_in_EMH, w_out_EHM))
        inputs = gather_rows(x_TM, layout)
        parts = (layout.split(rows) for rows in (pre_activation, y))
        for w_1, w_2, x, hidden, out in zip(w_in, w_out, inputs, *parts, strict=False):
            torch.mm(x, w_1, out=hidden)
            torch.mm(gelu_values(hidden), w_2, out=out)
        ctx.save_for_backward(x_TM, gates_TK, w_in_EMH, w_out_EHM, pre_activation)
        ctx.layout = layout
        return sum_of_choices(y, layout.row_of_choice.view_as(gates_TK), gates_TK)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_TM, gates_TK, w_in_EMH, w_out_EHM, pre_activation = ctx.saved_tensors
        layout: Permutation = ctx.layout
        gates = gates_of_rows(gates_TK, layout.row_of_choice, len(pre_activation))
        d_gates = torch.empty_like(gates)
        d_rows = pre_activation.new_empty(len(pre_activation), x_TM.shape[1])
        w_in, w_out = (cast_matrices(w, x_TM.dtype) for w in (w_in_EMH, w_out_EHM))
        d_w_in, d_w_out = (Gradient(w, x_TM.dtype) for w in (w_in_EMH, w_out_EHM))
        inputs = (gather_rows(tokens, layout) for tokens in (x_TM, grads[0]))
        parts = (layout.split(rows) for rows in (pre_activation, gates, d_gates, d_rows))
        each = zip(w_in, w_out, *inputs, *parts, strict=False)
        for w_1, w_2, x, d_y, hidden, gate, d_gate, d_x in each:
            d = torch.mm(d_y, w_2.t())
            gated, d_gate[:] = gated_rows_backward(hidden, gate, d)
            d_w_out.write(gated, d_y)
            d_w_in.write(x, d)
            torch.mm(d, w_1.t(), out=d_x)
        row_of_choice = layout.row_of_choice.view_as(gates_TK)
        d_gates_TK = gates_of_choices(d_gates, layout.row_of_choice, gates_TK)
        return (
            sum_of_choices(d_rows, row_of_choice),
            d_gates_TK,
            d_w_in.total,
            d_w_out.total,
            None,
        )


def gather_rows(
    x_TM: Float[Tensor, "T M"], layout: Permutation
) -> Iterator[Float[Tensor, "rows M"]]:
    """The rows of one expert after another, in one buffer: each overwrites the last."""
    buffer = x_TM.new_empty(max(layout.counts_as_numbers()), x_TM.shape[1])
    for tokens in layout.split(layout.token_of_row):
        yield torch.index_select(x_TM, 0, tokens, out=buffer[: len(tokens)])


def cast_matrices(
    stack: Float[Tensor, "E X Y"], dtype: torch.dtype
) -> Iterator[Float[Tensor, "X Y"]]:
    """The matrices of a stack in `dtype`, in one buffer: each overwrites the last."""
    if stack.dtype == dtype:
        yield from stack.unbind()
        return
    buffer = stack.new_empty(stack[0].shape, dtype=dtype)
    for matrix in stack.unbind():
        yield buffer.copy_(matrix)


class Gradient:
    """The gradient of a stack, written matrix by matrix from products in another type."""

    def __init__(self, stack: Float[Tensor, "E X Y"], dtype: torch.dtype) -> None:
        self.total = empty_like_pooled(stack)
        self.left = iter(self.total.unbind())
        self.buffer = None if stack.dtype == dtype else stack.new_empty(stack[0].shape, dtype=dtype)

    def write(self, rows: Tensor, grad: Tensor) -> None:
        """The gradient of the next matrix, rows^T grad; 0 for an expert without rows."""
        matrix = next(self.left)
        if self.buffer is None:
            torch.mm(rows.t(), grad, out=matrix)
        else:
            matrix.copy_(torch.mm(rows.t(), grad, out=self.buffer))


def experts_loop(
    x_TM: Float[Tensor, "T M"], routing: Routing, experts: Experts, layout: Permutation
) -> Float[Tensor, "T M"]:
    """The gated sum of the experts' outputs."""
    weights = (experts.w_in_EMH, experts.w_out_EHM)
    y = ExpertsLoop.apply(x_TM, routing.gates, *weights, layout)  # pyright: ignore
    return cast(Tensor, y)
