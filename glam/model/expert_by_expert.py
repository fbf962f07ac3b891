"""Large experts on a CPU: one after another, each from its rows to its output and back, so that
what lies between its products never leaves the cache, and weights of another type are cast there
too, not side by side for the backward pass. Of all rows only the first product is kept."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from glam.model.activations import gated_rows_backward, gelu_values
from glam.model.experts import Experts
from glam.model.fused_experts import gates_of_choices, gates_of_rows, sum_of_choices
from glam.model.routing import Routing
from glam.model.sorted_layout import SortedLayout


def rows_of_experts(layout: SortedLayout) -> Iterator[tuple[int, slice]]:
    """Each expert that has any, and where they lie among all."""
    start = 0
    for expert, count in enumerate(layout.counts_as_numbers()):
        if count:
            yield expert, slice(start, start + count)
        start += count


class ExpertByExpert(torch.autograd.Function):
    """`(x [T, M], gates [T, K], w_in [E, M, H], w_out [E, H, M], layout) -> y [T, M]`"""

    @staticmethod
    def forward(
        ctx: Any,
        x_TM: Tensor,
        gates_TK: Tensor,
        w_in_EMH: Tensor,
        w_out_EHM: Tensor,
        layout: SortedLayout,
    ) -> Tensor:
        num_rows, (M, H) = len(layout.token_of_row), w_in_EMH.shape[1:]
        before, y = x_TM.new_empty(num_rows, H), x_TM.new_empty(num_rows, M)
        w_in, w_out = (Narrow(w, x_TM.dtype) for w in (w_in_EMH, w_out_EHM))
        x = x_TM.index_select(0, layout.token_of_row)
        for expert, where in rows_of_experts(layout):
            torch.mm(x[where], w_in[expert], out=before[where])
            torch.mm(gelu_values(before[where]), w_out[expert], out=y[where])
        ctx.save_for_backward(x_TM, gates_TK, w_in_EMH, w_out_EHM, before)
        ctx.layout = layout
        return sum_of_choices(y, layout.row_of_choice.view_as(gates_TK), gates_TK)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_TM, gates_TK, w_in_EMH, w_out_EHM, before = ctx.saved_tensors
        layout: SortedLayout = ctx.layout
        gates = gates_of_rows(gates_TK, layout.row_of_choice, len(before))
        d_gates, d_rows = torch.empty_like(gates), before.new_empty(len(before), x_TM.shape[1])
        w_in, w_out = (Narrow(w, x_TM.dtype) for w in (w_in_EMH, w_out_EHM))
        d_w_in, d_w_out = (Gradient(w, x_TM.dtype) for w in (w_in_EMH, w_out_EHM))
        x, d_y = (given.index_select(0, layout.token_of_row) for given in (x_TM, grads[0]))
        for expert, where in rows_of_experts(layout):
            d = torch.mm(d_y[where], w_out[expert].t())
            hidden, d_gates[where] = gated_rows_backward(before[where], gates[where], d)
            d_w_out.write(expert, hidden, d_y[where])
            d_w_in.write(expert, x[where], d)
            torch.mm(d, w_in[expert].t(), out=d_rows[where])
        row_of_choice = layout.row_of_choice.view_as(gates_TK)
        d_gates_TK = gates_of_choices(d_gates, layout.row_of_choice, gates_TK)
        idle = layout.counts == 0
        return (
            sum_of_choices(d_rows, row_of_choice),
            d_gates_TK,
            d_w_in.whole(idle),
            d_w_out.whole(idle),
            None,
        )


class Narrow:
    """Matrices of a stack, one at a time, in another type: each in the place of the last."""

    def __init__(self, stack: Float[Tensor, "E X Y"], dtype: torch.dtype) -> None:
        self.stack = stack
        self.buffer = None if stack.dtype == dtype else stack.new_empty(stack[0].shape, dtype=dtype)

    def __getitem__(self, expert: int) -> Float[Tensor, "X Y"]:
        matrix = self.stack[expert]
        return matrix if self.buffer is None else self.buffer.copy_(matrix)


class Gradient:
    """Of a stack, filled matrix by matrix by products in another type."""

    def __init__(self, stack: Float[Tensor, "E X Y"], dtype: torch.dtype) -> None:
        self.total = torch.empty_like(stack)
        self.buffer = None if stack.dtype == dtype else stack.new_empty(stack[0].shape, dtype=dtype)

    def write(self, expert: int, rows: Tensor, grad: Tensor) -> None:
        if self.buffer is None:
            torch.mm(rows.t(), grad, out=self.total[expert])
        else:
            self.total[expert].copy_(torch.mm(rows.t(), grad, out=self.buffer))

    def whole(self, idle_E: Tensor) -> Float[Tensor, "E X Y"]:
        """With zeros for the experts that had no rows."""
        for expert in idle_E.nonzero().flatten():
            self.total[expert].zero_()
        return self.total


def expert_by_expert(
    x_TM: Float[Tensor, "T M"], routing: Routing, experts: Experts, layout: SortedLayout
) -> Float[Tensor, "T M"]:
    weights = (experts.w_in_EMH, experts.w_out_EHM)
    y = ExpertByExpert.apply(x_TM, routing.gates, *weights, layout)  # pyright: ignore
    return cast(Tensor, y)
