"""Rows sorted by expert, as many as it has: products of ragged groups, on any device.

oneDNN, which multiplies bfloat16 on a CPU, compiles a kernel for every row count that it has not
met and keeps it (0.2 ms, 1 MB), and routing makes new counts at every step. Filled up to a multiple
of 16 there are few: 4,096 tokens, 16 experts of 256 by 1,024 take 0.81 of the time.
"""

from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

FILL = 16  # rows


def fill(x: Tensor) -> int:
    """What the rows of an expert are filled up to a multiple of: 1 is as they come."""
    return FILL if x.device.type == "cpu" and x.dtype == torch.bfloat16 else 1


class SortedLayout(NamedTuple):
    row_of_choice: Int[Tensor, "choices"]
    token_of_row: Int[Tensor, "rows"]
    counts: Int[Tensor, "E"]

    def weights(self, w: Float[Tensor, "E X Y"]) -> Float[Tensor, "E X Y"]:
        return w

    def product(self, rows: Tensor, w: Tensor) -> Tensor:
        if _has_grouped_mm(rows, w.shape[2]):
            return functional.grouped_mm(rows, w, offs=self._ends)
        y = rows.new_empty(len(rows), w.shape[2])
        for part, matrix, out in zip(self._split(rows), w, self._split(y), strict=True):
            torch.mm(part, matrix, out=out)
        return y

    def transposed(self, rows: Tensor, w: Tensor) -> Tensor:
        return self.product(rows, w.transpose(1, 2))

    def weight_gradient(self, rows: Tensor, grad: Tensor) -> Tensor:
        if _has_grouped_mm(rows, grad.shape[1]):
            return functional.grouped_mm(rows.t(), grad, offs=self._ends)
        d_w = rows.new_empty(len(self.counts), rows.shape[1], grad.shape[1])
        for part, d_part, out in zip(self._split(rows), self._split(grad), d_w, strict=True):
            torch.mm(part.t(), d_part, out=out)
        return d_w

    @property
    def _ends(self) -> Int[Tensor, "E"]:
        return self.counts.cumsum(0, dtype=torch.int32)

    def _split(self, rows: Tensor) -> tuple[Tensor, ...]:
        counts = cast(list[int], self.counts.tolist())  # pyright: ignore[reportUnknownMemberType]
        return torch.split(rows, counts)


def _has_grouped_mm(rows: Tensor, width: int) -> bool:
    """Not before torch 2.10, not in float64, and its strides are multiples of 16 bytes."""
    aligned = all(size * rows.itemsize % 16 == 0 for size in (rows.shape[1], width))
    return aligned and rows.dtype != torch.float64 and hasattr(functional, "grouped_mm")


class Rows(NamedTuple):
    """The choices sorted by expert, the rows of each expert filled up to a multiple."""

    row_of_choice: Int[Tensor, "choices"]
    token_of_row: Int[Tensor, "rows"]  # token 0 where no choice fills the row
    counts: Int[Tensor, "E"]


def sort(experts_TK: Int[Tensor, "T K"], num_experts: int, multiple: int) -> Rows:
    expert_of_choice, top_k = experts_TK.flatten(), experts_TK.shape[1]
    order = expert_of_choice.argsort(stable=True)
    rows = torch.arange(len(order), device=order.device)
    counts_E = torch.bincount(expert_of_choice, minlength=num_experts)
    if multiple == 1:
        token_of_row, filled_E = order // top_k, counts_E
    else:
        filled_E = (counts_E + (multiple - 1)) // multiple * multiple
        # Sorted, the n-th choice of an expert lies n rows after the start of the expert's.
        shift_E = (filled_E - counts_E).cumsum(0) - (filled_E - counts_E)
        rows += torch.repeat_interleave(shift_E, counts_E)
        token_of_row = order.new_zeros(int(filled_E.sum()))
        token_of_row.scatter_(0, rows, order // top_k)
    return Rows(torch.empty_like(order).scatter_(0, order, rows), token_of_row, filled_E)


def sorted_layout(
    experts_TK: Int[Tensor, "T K"], num_experts: int, multiple: int = 1
) -> SortedLayout:
    return SortedLayout(*sort(experts_TK, num_experts, multiple))
