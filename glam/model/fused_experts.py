"""The experts of a layer as one function, forward and backward: rows gathered by expert, two
products with GELU between, and the gated sum back. How rows are laid out and multiplied is the
dispatcher's choice; what is kept for the backward pass is the same."""

from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from glam.model.experts import Experts
from glam.model.routing import Routing

aten = torch.ops.aten


@runtime_checkable
class Layout(Protocol):
    """Where the choices' rows lie, and products of each expert's rows with its own matrix."""

    @property
    def row_of_choice(self) -> Int[Tensor, "choices"]: ...

    @property
    def token_of_row(self) -> Int[Tensor, "rows"]:
        """Rows that no choice fills read any token."""
        ...

    def weights(self, w: Float[Tensor, "E X Y"]) -> Tensor:
        """The matrices in the form that the products take."""
        ...

    def product(self, rows: Float[Tensor, "rows X"], w: Tensor) -> Float[Tensor, "rows Y"]: ...

    def transposed(self, rows: Float[Tensor, "rows Y"], w: Tensor) -> Float[Tensor, "rows X"]: ...

    def weight_gradient(
        self, rows: Float[Tensor, "rows X"], grad: Float[Tensor, "rows Y"]
    ) -> Float[Tensor, "E X Y"]: ...


class FusedExperts(torch.autograd.Function):
    """`(x [T, M], gates [T, K], w_in [E, M, H], w_out [E, H, M], layout) -> y [T, M]`"""

    @staticmethod
    def forward(
        ctx: Any, x_TM: Tensor, gates_TK: Tensor, w_in_EMH: Tensor, w_out_EHM: Tensor, at: Layout
    ) -> Tensor:
        w_in = at.weights(w_in_EMH.to(x_TM.dtype))
        w_out = at.weights(w_out_EHM.to(x_TM.dtype))
        rows = x_TM.index_select(0, at.token_of_row)
        before = at.product(rows, w_in)
        hidden = functional.gelu(before)
        y_TKM = at.product(hidden, w_out).index_select(0, at.row_of_choice)
        y_TKM = y_TKM.view(*gates_TK.shape, -1)
        ctx.save_for_backward(gates_TK, w_in, w_out, rows, before, hidden, y_TKM)
        ctx.at, ctx.weight_dtype = at, w_in_EMH.dtype
        return _weighted_sum(y_TKM, gates_TK.to(x_TM.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gates_TK, w_in, w_out, rows, before, hidden, y_TKM = ctx.saved_tensors
        at: Layout = ctx.at
        d_gates = (y_TKM * grads[0][:, None]).sum(-1).to(gates_TK.dtype)
        gate_of_row = rows.new_zeros(len(rows))  # 0: nothing comes of a row that no choice fills
        gate_of_row.scatter_(0, at.row_of_choice, gates_TK.flatten().to(rows.dtype))
        d_y = grads[0].index_select(0, at.token_of_row).mul_(gate_of_row[:, None])
        d_w_out = at.weight_gradient(hidden, d_y).to(ctx.weight_dtype)
        d_hidden = at.transposed(d_y, w_out)
        d_before = aten.gelu_backward.grad_input(d_hidden, before, grad_input=d_hidden)
        d_w_in = at.weight_gradient(rows, d_before).to(ctx.weight_dtype)
        d_rows = at.transposed(d_before, w_in).index_select(0, at.row_of_choice)
        d_x = _sum_of_choices(d_rows.view_as(y_TKM))
        return d_x, d_gates, d_w_in, d_w_out, None


def _sum_of_choices(y_TKM: Tensor) -> Tensor:
    y_TM = y_TKM[:, 0].clone()
    for k in range(1, y_TKM.shape[1]):
        y_TM += y_TKM[:, k]
    return y_TM


def _weighted_sum(y_TKM: Tensor, gates_TK: Tensor) -> Tensor:
    y_TM = y_TKM[:, 0] * gates_TK[:, :1]
    for k in range(1, gates_TK.shape[1]):
        y_TM.addcmul_(y_TKM[:, k], gates_TK[:, k : k + 1])
    return y_TM


def fused_experts(
    x_TM: Float[Tensor, "T M"], routing: Routing, experts: Experts, layout: Layout
) -> Float[Tensor, "T M"]:
    weights = (experts.w_in_EMH, experts.w_out_EHM)
    y = FusedExperts.apply(x_TM, routing.gates, *weights, layout)  # pyright: ignore
    return cast(Tensor, y)
