"""Small experts on a CPU: their rows in blocks of one size, all blocks in one batched product.

oneDNN compiles a kernel for every row count it has not met, and routing makes new counts at every
step: about 0.2 ms each, more than a small expert's product. Blocks have one shape whatever the
routing; the price is at most one partly empty block per expert, and a copy of the weights per
block, which is why it pays for small matrices only (measured for 64 by 256 in bfloat16, with 8
to 64 experts; at 128 by 512 it is a draw, and in float32 a loss).
"""

from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from glam.model.experts import Experts
from glam.model.routing import Routing

BLOCK = 64  # rows
SMALL = 2**15  # elements of a matrix

aten = torch.ops.aten


class Plan(NamedTuple):
    """Where the rows lie: blocks of BLOCK rows, each of one expert, sorted by expert."""

    row_of_choice: Int[Tensor, "choices"]
    token_of_row: Int[Tensor, "rows"]  # rows that no choice fills read token 0
    expert_of_block: Int[Tensor, "blocks"]
    first_block: Int[Tensor, "E"]


def plan(experts_TK: Int[Tensor, "T K"], num_experts: int) -> Plan:
    expert_of_choice = experts_TK.flatten()
    counts_E = torch.bincount(expert_of_choice, minlength=num_experts)
    blocks_E = (counts_E + (BLOCK - 1)) // BLOCK
    expert_of_block = torch.repeat_interleave(blocks_E)
    # Sorted, the n-th choice of an expert lies n rows after the start of the expert's blocks.
    order = expert_of_choice.argsort(stable=True)
    first_block_E = blocks_E.cumsum(0) - blocks_E
    shift_E = first_block_E * BLOCK - (counts_E.cumsum(0) - counts_E)
    rows = torch.arange(len(order)) + torch.repeat_interleave(shift_E, counts_E)
    row_of_choice = torch.empty_like(order).scatter_(0, order, rows)
    token_of_row = order.new_zeros(len(expert_of_block) * BLOCK)
    token_of_row.scatter_(0, rows, order // experts_TK.shape[1])
    return Plan(row_of_choice, token_of_row, expert_of_block, first_block_E)


class BlockExperts(torch.autograd.Function):
    """`(x [T, M], gates [T, K], w_in [E, M, H], w_out [E, H, M], plan) -> y [T, M]`"""

    @staticmethod
    def forward(
        ctx: Any, x_TM: Tensor, gates_TK: Tensor, w_in_EMH: Tensor, w_out_EHM: Tensor, where: Plan
    ) -> Tensor:
        T, M = x_TM.shape
        w_in = w_in_EMH.to(x_TM.dtype).index_select(0, where.expert_of_block)
        w_out = w_out_EHM.to(x_TM.dtype).index_select(0, where.expert_of_block)
        rows = x_TM.index_select(0, where.token_of_row).view(-1, BLOCK, M)
        before = torch.bmm(rows, w_in)
        hidden = functional.gelu(before)
        y_rows = torch.bmm(hidden, w_out).view(-1, M)
        y_TKM = y_rows.index_select(0, where.row_of_choice).view(T, -1, M)
        ctx.save_for_backward(gates_TK, w_in, w_out, rows, before, hidden, y_TKM)
        ctx.where, ctx.weight_dtype = where, w_in_EMH.dtype
        return _weighted_sum(y_TKM, gates_TK.to(x_TM.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gates_TK, w_in, w_out, rows, before, hidden, y_TKM = ctx.saved_tensors
        where: Plan = ctx.where
        T, M = grads[0].shape
        d_gates = (y_TKM * grads[0][:, None]).sum(-1).to(gates_TK.dtype)
        gate_of_row = rows.new_zeros(len(where.token_of_row))  # 0: nothing comes of an empty row
        gate_of_row.scatter_(0, where.row_of_choice, gates_TK.flatten().to(rows.dtype))
        d_y = grads[0].index_select(0, where.token_of_row).mul_(gate_of_row[:, None]).view_as(rows)
        d_hidden = torch.bmm(d_y, w_out.transpose(1, 2))
        d_before = aten.gelu_backward.grad_input(d_hidden, before, grad_input=d_hidden)
        d_rows = torch.bmm(d_before, w_in.transpose(1, 2)).view(-1, M)
        d_x = _sum_of_choices(d_rows.index_select(0, where.row_of_choice).view(T, -1, M))

        def by_expert(d_w: Tensor) -> Tensor:
            # An expert's blocks lie side by side: a bag each, summed in float32.
            flat, blocks = d_w.flatten(1), torch.arange(len(d_w))
            total = functional.embedding_bag(blocks, flat, where.first_block, mode="sum")
            return total.view(-1, *d_w.shape[1:]).to(ctx.weight_dtype)

        d_w_in = by_expert(torch.bmm(rows.transpose(1, 2), d_before))
        d_w_out = by_expert(torch.bmm(hidden.transpose(1, 2), d_y))
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


def suits(x: Tensor, experts: Experts) -> bool:
    """Whether blocks are the fastest form here."""
    small = experts.w_in_EMH[0].numel() <= SMALL
    return small and x.device.type == "cpu" and x.dtype == torch.bfloat16


def block_experts(
    x_TM: Float[Tensor, "T M"], routing: Routing, experts: Experts
) -> Float[Tensor, "T M"]:
    """What `grouped` computes, dropless too."""
    weights = (experts.w_in_EMH, experts.w_out_EHM)
    where = plan(routing.experts, len(experts.w_in_EMH))
    y = BlockExperts.apply(x_TM, routing.gates, *weights, where)  # pyright: ignore
    return cast(Tensor, y)
