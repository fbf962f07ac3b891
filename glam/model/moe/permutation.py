"""Rows sorted by expert, as many as it has: products of ragged groups, on any device.

oneDNN, which multiplies bfloat16 on a CPU, compiles a kernel for every row count that it has not
met and keeps it, and routing makes new counts at every step. Filled up to few sizes they are soon
all met.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional

from glam import kernels

Fill = Callable[[Int[Tensor, "*E"]], Int[Tensor, "*E"]]  # row counts, of experts or of all
FILL = 16  # rows
SIZES_PER_OCTAVE = 16


def fill(x: Tensor) -> Fill:
    """How many rows an expert gets for those that come to it."""
    return to_few_sizes if x.device.type == "cpu" and x.dtype == torch.bfloat16 else as_they_come


def as_they_come(counts_E: Int[Tensor, "*E"]) -> Int[Tensor, "*E"]:
    return counts_E


def to_few_sizes(counts_E: Int[Tensor, "*E"]) -> Int[Tensor, "*E"]:
    """Multiples of 16 rows, and above 256 rows 16 sizes between a power of two and the next."""
    octave_E = counts_E.float().frexp().exponent - 1
    multiple_E = (2**octave_E // SIZES_PER_OCTAVE).clamp_(min=FILL)
    return up_to_multiple(counts_E, multiple_E)


def up_to_multiple(counts_E: Int[Tensor, "*E"], of: Tensor | int) -> Int[Tensor, "*E"]:
    return (counts_E + (of - 1)) // of * of


class SortedLayout(NamedTuple):
    row_of_choice: Int[Tensor, "choices"]
    token_of_row: Int[Tensor, "rows"]  # token 0 where no choice fills the row
    counts: Int[Tensor, "E"]

    def product(self, rows: Tensor, w: Tensor) -> Tensor:
        if _has_grouped_mm(rows, w.shape[2]):
            return functional.grouped_mm(rows, w, offs=self._ends)
        y = rows.new_empty(len(rows), w.shape[2])
        for part, matrix, out in zip(self.split(rows), w, self.split(y), strict=False):
            torch.mm(part, matrix, out=out)
        return y

    def transposed(self, rows: Tensor, w: Tensor) -> Tensor:
        return self.product(rows, w.transpose(1, 2))

    def weight_gradient(self, rows: Tensor, grad: Tensor) -> Tensor:
        if _has_grouped_mm(rows, grad.shape[1]):
            return functional.grouped_mm(rows.t(), grad, offs=self._ends)
        d_w = rows.new_empty(len(self.counts), rows.shape[1], grad.shape[1])
        for part, d_part, out in zip(self.split(rows), self.split(grad), d_w, strict=False):
            torch.mm(part.t(), d_part, out=out)
        return d_w

    def first_rows(self) -> Int[Tensor, "E_and_one"]:
        """Where each expert's rows begin, and the last one's end."""
        return torch.cat([self.counts.new_zeros(1), self.counts.cumsum(0)])

    def counts_as_numbers(self) -> list[int]:
        return cast(list[int], self.counts.tolist())  # pyright: ignore[reportUnknownMemberType]

    @property
    def _ends(self) -> Int[Tensor, "E"]:
        return self.counts.cumsum(0, dtype=torch.int32)

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """By expert; the last part is rows of none."""
        counts = self.counts_as_numbers()
        return torch.split(rows, [*counts, len(rows) - sum(counts)])


def _has_grouped_mm(rows: Tensor, width: int) -> bool:
    """Not before torch 2.10, not in float64, and its strides are multiples of 16 bytes."""
    aligned = all(size * rows.itemsize % 16 == 0 for size in (rows.shape[1], width))
    return aligned and rows.dtype != torch.float64 and hasattr(functional, "grouped_mm")


def permutation(
    experts_TK: Int[Tensor, "T K"], num_experts: int, fill: Fill = as_they_come
) -> SortedLayout:
    """The choices sorted by expert, the rows of each expert filled up, and those of all."""
    counts_E = torch.bincount(experts_TK.flatten(), minlength=num_experts)
    filled_E = fill(counts_E)
    first_E = filled_E.cumsum(0) - filled_E
    num_rows = experts_TK.numel() if filled_E is counts_E else int(fill(filled_E.sum()))
    row_of_choice = torch.empty_like(experts_TK).flatten()
    token_of_row = row_of_choice.new_zeros(num_rows)
    if type(experts_TK) is Tensor and experts_TK.is_cpu and kernels.library() is not None:
        experts_TK = experts_TK.contiguous()
        kernels.call(
            "sort_by_expert", experts_TK, first_E, row_of_choice, token_of_row, *experts_TK.shape
        )
    else:
        order = experts_TK.flatten().argsort(stable=True)
        # Sorted, the n-th choice of an expert lies n rows after the first of the expert's.
        shift_E = first_E - (counts_E.cumsum(0) - counts_E)
        rows = torch.arange(len(order), device=order.device)
        rows += torch.repeat_interleave(shift_E, counts_E)
        token_of_row.scatter_(0, rows, order // experts_TK.shape[1])
        row_of_choice.scatter_(0, order, rows)
    return SortedLayout(row_of_choice, token_of_row, filled_E)
