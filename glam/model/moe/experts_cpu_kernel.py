"""Experts by a CPU kernel, which takes each expert through both products, forward and backward.
With torch's products small experts cost more in calls than in arithmetic, and large ones in
bfloat16 (measured up to 1,024 by 4,096) in memory traffic between products."""

from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from glam import kernels
from glam.kernels.contracts import ROWS
from glam.model.cpu_products import padded_hidden
from glam.model.gradient_pool import empty_like_pooled
from glam.model.moe.experts import Experts
from glam.model.moe.experts_grouped_mm import gates_of_choices, gates_of_rows, sum_of_choices
from glam.model.moe.permutation import Permutation, no_padding, permutation, round_up
from glam.model.moe.routing import Routing


def kernel_supported(x: Tensor, experts: Experts) -> bool:
    """Whether the kernel takes these: weights in float32 or the type of `x`; in bfloat16 width and
    hidden units multiples of TILE."""
    w = experts.w_in_EMH
    _, M, H = w.shape
    served = kernels.supported(x, w) and w.dtype in (x.dtype, torch.float32)
    fits = x.dtype == torch.float32 or M % kernels.TILE == H % kernels.TILE == 0
    return served and fits and kernels.has_gemm(x.dtype)


def padded_permutation(
    experts_TK: Int[Tensor, "T K"], num_experts: int, dtype: torch.dtype
) -> Permutation:
    """The permutation with each expert's rows padded to what the kernel's products take."""
    rows = ROWS[dtype]
    padding = no_padding if rows == 1 else partial(round_up, of=rows)
    return permutation(experts_TK, num_experts, padding)


class ExpertsCpuKernel(torch.autograd.Function):
    """`(x [T, M], gates [T, K], w_in [E, M, H], w_out [E, H, M], layout) -> y [T, M]`. Raises
    MemoryError where the workspace of an expert cannot be had."""

    @staticmethod
    def forward(
        ctx: Any, x_TM: Tensor, gates_TK: Tensor, w_in: Tensor, w_out: Tensor, layout: Permutation
    ) -> Tensor:
        x_TM, w_in, w_out = x_TM.contiguous(), w_in.contiguous(), w_out.contiguous()
        sizes, num_rows = w_in.shape, len(layout.token_of_row)
        pre_activation = x_TM.new_empty(num_rows, padded_hidden(sizes[2]))
        y = x_TM.new_empty(num_rows, sizes[1])
        inputs = (w_in, w_out, layout.first_rows(), layout.token_of_row)
        numbers = (*sizes, w_in.dtype == torch.float32)
        if kernels.call("experts_forward", x_TM, *inputs, pre_activation, y, *numbers):
            raise MemoryError("no memory for the rows of an expert")
        ctx.save_for_backward(x_TM, gates_TK, w_in, w_out, pre_activation)
        ctx.layout = layout
        return sum_of_choices(y, layout.row_of_choice.view_as(gates_TK), gates_TK)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_TM, gates_TK, w_in, w_out, pre_activation = ctx.saved_tensors
        layout: Permutation = ctx.layout
        gates = gates_of_rows(gates_TK, layout.row_of_choice, len(pre_activation))
        d_rows = pre_activation.new_empty(len(pre_activation), x_TM.shape[1])
        d_gates = torch.empty_like(gates)
        d_w_in, d_w_out = empty_like_pooled(w_in), empty_like_pooled(w_out)
        inputs = (grads[0].contiguous(), w_in, w_out, layout.first_rows(), layout.token_of_row)
        outputs = (pre_activation, gates, d_rows, d_gates, d_w_in, d_w_out)
        sizes = (*w_in.shape, w_in.dtype == torch.float32)
        if kernels.call("experts_backward", x_TM, *inputs, *outputs, *sizes):
            raise MemoryError("no memory for the rows of an expert")
        d_x = sum_of_choices(d_rows, layout.row_of_choice.view_as(gates_TK))
        d_gates_TK = gates_of_choices(d_gates, layout.row_of_choice, gates_TK)
        return d_x, d_gates_TK, d_w_in, d_w_out, None


def experts_cpu_kernel(
    x_TM: Float[Tensor, "T M"], routing: Routing, experts: Experts, layout: Permutation
) -> Float[Tensor, "T M"]:
    """The gated sum of the experts' outputs; `layout` is a `padded_permutation`."""
    weights = (experts.w_in_EMH, experts.w_out_EHM)
    y = ExpertsCpuKernel.apply(x_TM, routing.gates, *weights, layout)  # pyright: ignore
    return cast(Tensor, y)
