"""Small experts on a CPU: their rows in blocks of one size, all blocks in one batched product.

A product of its own costs a small expert more in calls than in arithmetic. Blocks have one shape
whatever the routing; the price is at most one partly empty block per expert, and a copy of the
weights per block, which is why it pays for small matrices only (measured for 64 by 256 in bfloat16,
with 16 to 64 experts; at 128 by 512 it is a loss, and so it is in float32).
"""

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from glam import kernels
from glam.model.experts import Experts
from glam.model.sorted_layout import sorted_layout, up_to_multiple

BLOCK = 64  # rows
SMALL = 2**15  # elements of a matrix


def suits(x: Tensor, experts: Experts) -> bool:
    """Whether blocks are the fastest form here."""
    small = experts.w_in_EMH[0].numel() <= SMALL
    return small and x.device.type == "cpu" and x.dtype == torch.bfloat16


class BlockLayout(NamedTuple):
    """Blocks of BLOCK rows, each of one expert, sorted by expert. Rows that no choice fills read
    token 0."""

    row_of_choice: Int[Tensor, "choices"]
    token_of_row: Int[Tensor, "rows"]
    expert_of_block: Int[Tensor, "blocks"]
    first_block: Int[Tensor, "E"]

    def weights(self, w: Float[Tensor, "E X Y"], dtype: torch.dtype) -> Tensor:
        """`[blocks, X, Y]`"""
        if dtype == torch.bfloat16 and w.dtype == torch.float32 and kernels.serve(w):
            made = w.new_empty(len(self.expert_of_block), *w.shape[1:], dtype=dtype)
            sizes = (len(made), w[0].numel())
            kernels.call("matrices_of_blocks", w.contiguous(), self.expert_of_block, made, *sizes)
            return made
        return w.to(dtype).index_select(0, self.expert_of_block)

    def product(self, rows: Tensor, w: Tensor) -> Tensor:
        return torch.bmm(in_blocks(rows), w).flatten(0, 1)

    def transposed(self, rows: Tensor, w: Tensor) -> Tensor:
        return torch.bmm(in_blocks(rows), w.transpose(1, 2)).flatten(0, 1)

    def weight_gradient(self, rows: Tensor, grad: Tensor) -> Tensor:
        """In float32."""
        each = torch.bmm(in_blocks(rows).transpose(1, 2), in_blocks(grad))
        if each.dtype == torch.bfloat16 and kernels.serve(each):
            E = len(self.first_block)
            total = each.new_empty(E, *each.shape[1:], dtype=torch.float32)
            sizes = (E, len(each), each[0].numel())
            kernels.call("sums_of_blocks", each, self.first_block, total, *sizes)
            return total
        # An expert's blocks lie side by side: a bag each.
        blocks = torch.arange(len(each))
        total = functional.embedding_bag(blocks, each.flatten(1), self.first_block, mode="sum")
        return total.view(-1, *each.shape[1:])


def in_blocks(rows: Tensor) -> Tensor:
    return rows.view(-1, BLOCK, rows.shape[1])


def block_layout(experts_TK: Int[Tensor, "T K"], num_experts: int) -> BlockLayout:
    whole = partial(up_to_multiple, of=BLOCK)
    row_of_choice, token_of_row, counts_E = sorted_layout(experts_TK, num_experts, whole)
    blocks_E = counts_E // BLOCK
    first_block_E = blocks_E.cumsum(0) - blocks_E
    return BlockLayout(
        row_of_choice, token_of_row, torch.repeat_interleave(blocks_E), first_block_E
    )
