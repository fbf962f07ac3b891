"""Rows sorted by expert, as many as it has: products of ragged groups, on any device."""

from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


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


def sorted_layout(experts_TK: Int[Tensor, "T K"], num_experts: int) -> SortedLayout:
    expert_of_choice = experts_TK.flatten()
    order = expert_of_choice.argsort(stable=True)
    places = torch.arange(len(order), device=order.device)
    row_of_choice = torch.empty_like(order).scatter_(0, order, places)
    counts_E = torch.bincount(expert_of_choice, minlength=num_experts)
    return SortedLayout(row_of_choice, order // experts_TK.shape[1], counts_E)
