"""The dropless dispatcher: tokens sorted by expert, ragged products, weighted sum back."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from glam.model.block_experts import block_experts, suits
from glam.model.experts import Experts
from glam.model.routing import Dispatched, Routing


class TakeRows(torch.autograd.Function):
    """`x[rows]`, where row i of `x` is taken `copies` times, to `places[copies * i …]`: so the
    gradient is a gather too, in a fixed order, where autograd's would be atomic additions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, places: Tensor, copies: int) -> Tensor:
        ctx.save_for_backward(places)
        ctx.copies = copies
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (places,) = ctx.saved_tensors
        taken = grads[0].index_select(0, places)
        return taken.view(-1, ctx.copies, taken.shape[1]).sum(1), None, None, None


def take_rows(x: Tensor, rows: Tensor, places: Tensor, copies: int) -> Tensor:
    return TakeRows.apply(x, rows, places, copies)  # pyright: ignore


def inverse(permutation: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    positions = torch.arange(len(permutation), device=permutation.device)
    return torch.empty_like(permutation).scatter_(0, permutation, positions)


def grouped(x_BSM: Float[Tensor, "B S M"], routing: Routing, experts: Experts) -> Dispatched:
    """Every choice is served. The form of the products is chosen by device and size."""
    form = block_experts if suits(x_BSM, experts) else ragged_experts
    y_TM = form(x_BSM.flatten(0, 1), routing, experts)
    return Dispatched(y_TM.view_as(x_BSM), dropped=routing.gates.new_zeros(()))


def ragged_experts(
    x_TM: Float[Tensor, "T M"], routing: Routing, experts: Experts
) -> Float[Tensor, "T M"]:
    num_tokens, top_k = routing.experts.shape
    expert_of_choice = routing.experts.flatten()
    order = expert_of_choice.argsort(stable=True)
    places = inverse(order)
    counts_E = torch.bincount(expert_of_choice, minlength=len(experts.w_in_EMH))

    rows = take_rows(x_TM, order // top_k, places, top_k)
    y = take_rows(experts.ragged(rows, counts_E), places, order, 1)
    y_TKM = y.view(num_tokens, top_k, -1)
    return (y_TKM * routing.gates[..., None].to(y.dtype)).sum(1)
