"""Experts whose products are in FP8, on GPUs that multiply it (`training.float8_experts`).

Every row of both factors, along the summed dimension, is divided by a scale of its own, so that its
largest number is the largest of float8_e4m3fn, and rounded (as DeepSeek-V3, arXiv 2412.19437,
section 3.3, with rows in place of blocks). Sums are in float32. The gradients of weights, which sum
over tokens, are products in the type of the activations.
"""

from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from glam.config import ModelConfig
from glam.model.activations import gated_rows_backward, gelu_values
from glam.model.moe.dispatch import Dispatcher
from glam.model.moe.experts import Experts
from glam.model.moe.experts_grouped_mm import gates_of_choices, gates_of_rows, sum_of_choices
from glam.model.moe.permutation import Permutation, static_permutation
from glam.model.moe.routing import Dispatched, Routing

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max  # 448
LEAST = 1e-12  # of a row's largest number, so that a row of zeros has a scale


class Scaled(NamedTuple):
    """Rows of `values * scale`, each with one scale."""

    values: Tensor  # [..., rows, K], float8
    scale: Tensor  # [..., rows], float32


def scaled(x: Float[Tensor, "*rows K"]) -> Scaled:
    """Rounds every row to float8."""
    wide = x.float()
    scale = wide.abs().amax(-1).clamp(min=LEAST) / LARGEST
    return Scaled((wide / scale[..., None]).to(FLOAT8).contiguous(), scale)


def product(rows: Scaled, w: Scaled, layout: Permutation, dtype: torch.dtype) -> Tensor:
    """Rows [rows, K] times the transpose of the matrix [E, N, K] of their expert: [rows, N]."""
    if rows.values.device.type == "cpu":  # by its definition
        wide = (each.values.float() * each.scale[..., None] for each in (rows, w))
        x, matrices = wide
        return layout.product(x, matrices.transpose(1, 2).contiguous()).to(dtype)
    # torch 2.13 cannot compile its public scaled_grouped_mm: that has no form for fake tensors.
    grouped: Any = torch._scaled_grouped_mm  # pyright: ignore
    factors = (rows.values, w.values.transpose(1, 2), rows.scale, w.scale)
    return grouped(*factors, offs=layout.ends, out_dtype=dtype)


class ExpertsFloat8(torch.autograd.Function):
    """`(x [T, M], gates [T, K], w_in [E, M, H], w_out [E, H, M], row of each choice, token of each
    row, rows of each expert) -> y [T, M]`"""

    @staticmethod
    def forward(
        ctx: Any, x_TM: Tensor, gates_TK: Tensor, w_in: Tensor, w_out: Tensor, *layout: Tensor
    ) -> Tensor:
        to, dtype = Permutation(*layout), x_TM.dtype
        rows = scaled(x_TM.index_select(0, to.token_of_row))
        pre_activation = product(rows, scaled(w_in.transpose(1, 2)), to, dtype)
        hidden = scaled(gelu_values(pre_activation))
        y = product(hidden, scaled(w_out.transpose(1, 2)), to, dtype)
        ctx.save_for_backward(x_TM, gates_TK, w_in, w_out, pre_activation, *layout)
        return sum_of_choices(y, to.row_of_choice.view_as(gates_TK), gates_TK)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_TM, gates_TK, w_in, w_out, pre_activation, *layout = ctx.saved_tensors
        to, dtype = Permutation(*layout), x_TM.dtype
        gates = gates_of_rows(gates_TK, to.row_of_choice, len(pre_activation))
        d_y = grads[0].index_select(0, to.token_of_row)
        d = product(scaled(d_y), scaled(w_out), to, dtype)
        hidden, d_gates = gated_rows_backward(pre_activation, gates, d)
        d_w_out = to.weight_gradient(hidden, d_y).to(w_out.dtype)
        rows = x_TM.index_select(0, to.token_of_row)
        d_w_in = to.weight_gradient(rows, d).to(w_in.dtype)
        d_rows = product(scaled(d), scaled(w_in), to, dtype)
        d_x = sum_of_choices(d_rows, to.row_of_choice.view_as(gates_TK))
        d_gates_TK = gates_of_choices(d_gates, to.row_of_choice, gates_TK)
        return d_x, d_gates_TK, d_w_in, d_w_out, None, None, None


def grouped_float8(x_BSM: Float[Tensor, "B S M"], routing: Routing, experts: Experts) -> Dispatched:
    """As `grouped_static`, with products in FP8."""
    layout = static_permutation(routing.experts, len(experts.w_in_EMH))
    x_TM, weights = x_BSM.flatten(0, 1), (experts.w_in_EMH, experts.w_out_EHM)
    y = cast(Tensor, ExpertsFloat8.apply(x_TM, routing.gates, *weights, *layout))  # pyright: ignore
    return Dispatched(y.view_as(x_BSM), dropped=routing.gates.new_zeros(()))


def dispatcher(config: ModelConfig) -> Dispatcher:
    """In place of the dispatcher of `model.dispatcher=grouped`."""
    return grouped_float8
