"""Large experts on a CPU: one after another, each from its rows to its output and back, so that
what lies between its products never leaves the cache, and weights of another type are cast there
too, not side by side for the backward pass. Of all rows only the first product is kept."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from glam.model.activations import gated_rows_backward, gelu_values
from glam.model.gradient_pool import empty_like_pooled
from glam.model.moe.experts import Experts
from glam.model.moe.experts_grouped_mm import gates_of_choices, gates_of_rows, sum_of_choices
from glam.model.moe.permutation import SortedLayout
from glam.model.moe.routing import Routing


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
        w_in, w_out = (narrowed(w, x_TM.dtype) for w in (w_in_EMH, w_out_EHM))
        given, parts = gathered(x_TM, layout), (layout.split(rows) for rows in (before, y))
        for w_1, w_2, x, hidden, out in zip(w_in, w_out, given, *parts, strict=False):
            torch.mm(x, w_1, out=hidden)
            torch.mm(gelu_values(hidden), w_2, out=out)
        ctx.save_for_backward(x_TM, gates_TK, w_in_EMH, w_out_EHM, before)
        ctx.layout = layout
        return sum_of_choices(y, layout.row_of_choice.view_as(gates_TK), gates_TK)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_TM, gates_TK, w_in_EMH, w_out_EHM, before = ctx.saved_tensors
        layout: SortedLayout = ctx.layout
        gates = gates_of_rows(gates_TK, layout.row_of_choice, len(before))
        d_gates, d_rows = torch.empty_like(gates), before.new_empty(len(before), x_TM.shape[1])
        w_in, w_out = (narrowed(w, x_TM.dtype) for w in (w_in_EMH, w_out_EHM))
        d_w_in, d_w_out = (Gradient(w, x_TM.dtype) for w in (w_in_EMH, w_out_EHM))
        given = (gathered(tokens, layout) for tokens in (x_TM, grads[0]))
        parts = (layout.split(rows) for rows in (before, gates, d_gates, d_rows))
        each = zip(w_in, w_out, *given, *parts, strict=False)
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


def gathered(
    given_TM: Float[Tensor, "T M"], layout: SortedLayout
) -> Iterator[Float[Tensor, "rows M"]]:
    """The tokens of one expert's rows after another's, each in the place of the last."""
    buffer = given_TM.new_empty(max(layout.counts_as_numbers()), given_TM.shape[1])
    for tokens in layout.split(layout.token_of_row):
        yield torch.index_select(given_TM, 0, tokens, out=buffer[: len(tokens)])


def narrowed(stack: Float[Tensor, "E X Y"], dtype: torch.dtype) -> Iterator[Float[Tensor, "X Y"]]:
    """Matrices in another type, each in the place of the last."""
    if stack.dtype == dtype:
        yield from stack.unbind()
        return
    buffer = stack.new_empty(stack[0].shape, dtype=dtype)
    for matrix in stack.unbind():
        yield buffer.copy_(matrix)


class Gradient:
    """Of a stack, filled matrix by matrix by products in another type."""

    def __init__(self, stack: Float[Tensor, "E X Y"], dtype: torch.dtype) -> None:
        self.total = empty_like_pooled(stack)
        self.left = iter(self.total.unbind())
        self.buffer = None if stack.dtype == dtype else stack.new_empty(stack[0].shape, dtype=dtype)

    def write(self, rows: Tensor, grad: Tensor) -> None:
        """The next; of no rows it is 0."""
        matrix = next(self.left)
        if self.buffer is None:
            torch.mm(rows.t(), grad, out=matrix)
        else:
            matrix.copy_(torch.mm(rows.t(), grad, out=self.buffer))


def experts_loop(
    x_TM: Float[Tensor, "T M"], routing: Routing, experts: Experts, layout: SortedLayout
) -> Float[Tensor, "T M"]:
    weights = (experts.w_in_EMH, experts.w_out_EHM)
    y = ExpertByExpert.apply(x_TM, routing.gates, *weights, layout)  # pyright: ignore
    return cast(Tensor, y)
