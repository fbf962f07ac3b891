"""Token permutation: choices sorted by expert, and products of the ragged groups of rows.

oneDNN, which multiplies bfloat16 on a CPU, compiles a kernel for every row count it has not seen,
and routing makes new counts at every step. Row counts are therefore padded to few sizes.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional

from glam import kernels

# Row counts to padded row counts: of each expert, or of all together.
RowPadding = Callable[[Int[Tensor, "*E"]], Int[Tensor, "*E"]]
MIN_ROWS = 16
SIZES_PER_OCTAVE = 16


def row_padding(x: Tensor) -> RowPadding:
    """The padding of row counts that products of `x` want."""
    return pad_to_few_sizes if x.device.type == "cpu" and x.dtype == torch.bfloat16 else no_padding


def no_padding(counts_E: Int[Tensor, "*E"]) -> Int[Tensor, "*E"]:
    """The counts themselves."""
    return counts_E


def pad_to_few_sizes(counts_E: Int[Tensor, "*E"]) -> Int[Tensor, "*E"]:
    """Multiples of 16 rows up to 256, then 16 sizes per power of two."""
    octave_E = counts_E.float().frexp().exponent - 1
    multiple_E = (2**octave_E // SIZES_PER_OCTAVE).clamp_(min=MIN_ROWS)
    return round_up(counts_E, multiple_E)


def round_up(counts_E: Int[Tensor, "*E"], of: Tensor | int) -> Int[Tensor, "*E"]:
    """The next multiple of `of`."""
    return (counts_E + (of - 1)) // of * of


class Permutation(NamedTuple):
    """Rows sorted by expert, each expert's padded. A choice is one of T * K, token by token."""

    row_of_choice: Int[Tensor, "choices"]
    token_of_row: Int[Tensor, "rows"]  # token 0 for a padding row
    counts: Int[Tensor, "E"]  # rows of each expert, padding included

    def product(self, rows: Tensor, w: Tensor) -> Tensor:
        """Rows [rows, X] times the matrix [E, X, Y] of their expert: [rows, Y]."""
        if _has_grouped_mm(rows, w.shape[2]):
            return functional.grouped_mm(rows, w, offs=self.ends)
        y = rows.new_empty(len(rows), w.shape[2])
        for part, matrix, out in zip(self.split(rows), w, self.split(y), strict=False):
            torch.mm(part, matrix, out=out)
        return y

    def transposed(self, rows: Tensor, w: Tensor) -> Tensor:
        """Rows [rows, Y] times the transposed matrix [E, X, Y] of their expert: [rows, X]."""
        return self.product(rows, w.transpose(1, 2))

    def weight_gradient(self, rows: Tensor, grad: Tensor) -> Tensor:
        """rows^T grad of every expert: [rows, X] and [rows, Y] to [E, X, Y]."""
        if _has_grouped_mm(rows, grad.shape[1]):
            return functional.grouped_mm(rows.t(), grad, offs=self.ends)
        d_w = rows.new_empty(len(self.counts), rows.shape[1], grad.shape[1])
        for part, d_part, out in zip(self.split(rows), self.split(grad), d_w, strict=False):
            torch.mm(part.t(), d_part, out=out)
        return d_w

    def first_rows(self) -> Int[Tensor, "E_and_one"]:
        """The first row of each expert, and the end of the last expert's rows."""
        return torch.cat([self.counts.new_zeros(1), self.counts.cumsum(0)])

    def counts_as_numbers(self) -> list[int]:
        return cast(list[int], self.counts.tolist())  # pyright: ignore[reportUnknownMemberType]

    @property
    def ends(self) -> Int[Tensor, "E"]:
        """The row behind each expert's last."""
        return self.counts.cumsum(0, dtype=torch.int32)

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The rows of each expert; the last part is padding that belongs to none."""
        counts = self.counts_as_numbers()
        return torch.split(rows, [*counts, len(rows) - sum(counts)])


def _has_grouped_mm(rows: Tensor, width: int) -> bool:
    """Whether torch has `grouped_mm` (2.10) for these: not float64, strides of 16 bytes."""
    aligned = all(size * rows.itemsize % 16 == 0 for size in (rows.shape[1], width))
    return aligned and rows.dtype != torch.float64 and hasattr(functional, "grouped_mm")


def permutation(
    experts_TK: Int[Tensor, "T K"], num_experts: int, padding: RowPadding = no_padding
) -> Permutation:
    """Sorts the choices by expert; pads the rows of each expert, and of all together."""
    counts_E = expert_counts(experts_TK, num_experts)
    padded_E = padding(counts_E)
    first_E = padded_E.cumsum(0) - padded_E
    num_rows = experts_TK.numel() if padded_E is counts_E else int(padding(padded_E.sum()))
    row_of_choice = torch.empty_like(experts_TK).flatten()
    token_of_row = row_of_choice.new_zeros(num_rows)
    if type(experts_TK) is Tensor and experts_TK.is_cpu and kernels.is_built():
        experts_TK = experts_TK.contiguous()
        sizes = (*experts_TK.shape, num_experts, num_rows)
        kernels.call("sort_by_expert", experts_TK, first_E, row_of_choice, token_of_row, *sizes)
    else:
        order = experts_TK.flatten().argsort(stable=True)
        # The n-th choice of an expert lies n rows after the expert's first row.
        shift_E = first_E - (counts_E.cumsum(0) - counts_E)
        rows = torch.arange(len(order), device=order.device)
        rows += torch.repeat_interleave(shift_E, counts_E)
        token_of_row.scatter_(0, rows, order // experts_TK.shape[1])
        row_of_choice.scatter_(0, order, rows)
    return Permutation(row_of_choice, token_of_row, padded_E)


def expert_counts(experts_TK: Int[Tensor, "T K"], num_experts: int) -> Int[Tensor, "E"]:
    """Choices of each expert. In a graph that is compiled by comparison: `bincount` has a shape
    that depends on its input."""
    if torch.compiler.is_compiling():
        every = torch.arange(num_experts, device=experts_TK.device)
        return (experts_TK.flatten()[:, None] == every).sum(0)
    return torch.bincount(experts_TK.flatten(), minlength=num_experts)


def static_permutation(experts_TK: Int[Tensor, "T K"], num_experts: int) -> Permutation:
    """The same without padding, by operators whose shapes do not depend on the routing, and that no
    step waits for: what a compiler can take in one piece."""
    flat = experts_TK.flatten()
    order = flat.argsort(stable=True)
    every = torch.arange(num_experts, device=flat.device)
    counts_E = (flat[:, None] == every).sum(0)
    row_of_choice = torch.empty_like(order).scatter(
        0, order, torch.arange(len(flat), device=flat.device)
    )
    return Permutation(row_of_choice, order // experts_TK.shape[1], counts_E)
