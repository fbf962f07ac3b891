"""The experts of one MoE layer: one stacked tensor per matrix."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Experts(nn.Module):
    """Feed-forwards gelu(x w_in) w_out, one per expert (paper, section 4)."""

    def __init__(self, num_experts: int, d_model: int, hidden: int) -> None:
        super().__init__()
        self.w_in_EMH = nn.Parameter(torch.empty(num_experts, d_model, hidden))
        self.w_out_EHM = nn.Parameter(torch.empty(num_experts, hidden, d_model))

    def forward(self, x: Float[Tensor, "E X M"]) -> Float[Tensor, "E X M"]:
        """The output for X rows of every expert."""
        hidden = functional.gelu(torch.bmm(x, self.w_in_EMH.to(x.dtype)))
        return torch.bmm(hidden, self.w_out_EHM.to(x.dtype))
