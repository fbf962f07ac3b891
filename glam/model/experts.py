"""The experts of one layer, in one tensor per matrix."""

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional


def ragged_mm(
    rows: Float[Tensor, "rows X"], w: Float[Tensor, "E X Y"], counts_E: Int[Tensor, "E"]
) -> Float[Tensor, "rows Y"]:
    """Multiply each expert's rows, sorted by expert, by its own matrix."""
    if _has_grouped_mm(rows, w):
        return functional.grouped_mm(rows, w, offs=counts_E.cumsum(0, dtype=torch.int32))
    # unbind and not w[e]: indexing would build one full-size gradient per expert.
    counts = cast(list[int], counts_E.tolist())  # pyright: ignore[reportUnknownMemberType]
    parts = zip(torch.split(rows, counts), w.unbind(0), strict=True)
    return torch.cat([part @ matrix for part, matrix in parts])


def _has_grouped_mm(rows: Tensor, w: Tensor) -> bool:
    """Not before torch 2.10, not in float64, and its strides are multiples of 16 bytes."""
    aligned = all(size * rows.itemsize % 16 == 0 for size in w.shape[1:])
    return aligned and rows.dtype != torch.float64 and hasattr(functional, "grouped_mm")


class Experts(nn.Module):
    """Two matrices with GELU between, for each expert (paper section 4)."""

    def __init__(self, num_experts: int, d_model: int, hidden: int) -> None:
        super().__init__()
        self.w_in_EMH = nn.Parameter(torch.empty(num_experts, d_model, hidden))
        self.w_out_EHM = nn.Parameter(torch.empty(num_experts, hidden, d_model))

    def forward(self, x: Float[Tensor, "E X M"]) -> Float[Tensor, "E X M"]:
        """Equally many rows for every expert."""
        hidden = functional.gelu(torch.bmm(x, self.w_in_EMH.to(x.dtype)))
        return torch.bmm(hidden, self.w_out_EHM.to(x.dtype))

    def ragged(
        self, rows: Float[Tensor, "rows M"], counts_E: Int[Tensor, "E"]
    ) -> Float[Tensor, "rows M"]:
        """Rows sorted by expert, `counts_E` of them for each."""
        hidden = functional.gelu(ragged_mm(rows, self.w_in_EMH.to(rows.dtype), counts_E))
        return ragged_mm(hidden, self.w_out_EHM.to(rows.dtype), counts_E)
