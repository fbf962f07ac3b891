"""The feed-forwards without experts: GEGLU, and the dense twin of an MoE layer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glam.model.activations import gated_gelu, gelu
from glam.model.cpu_products import feed_forward, products_supported


class GatedFeedForward(nn.Module):
    """GEGLU: y = (gelu(x w_gate) * (x w_in)) w_out (paper, section 4)."""

    def __init__(self, d_model: int, hidden: int) -> None:
        super().__init__()
        self.w_gate_MH = nn.Parameter(torch.empty(d_model, hidden))
        self.w_in_MH = nn.Parameter(torch.empty(d_model, hidden))
        self.w_out_HM = nn.Parameter(torch.empty(hidden, d_model))

    def forward(self, x: Float[Tensor, "B S M"]) -> Float[Tensor, "B S M"]:
        weights = (self.w_gate_MH, self.w_in_MH, self.w_out_HM)
        if products_supported(x, *weights):
            return feed_forward(x, *weights)
        hidden = gated_gelu(x @ self.w_gate_MH.to(x.dtype), x @ self.w_in_MH.to(x.dtype))
        return hidden @ self.w_out_HM.to(x.dtype)


class FeedForward(nn.Module):
    """The dense twin of an MoE layer, y = gelu(x w_in) w_out: one expert as wide as the `top_k`
    experts of a token together, so that both cost the same per token."""

    def __init__(self, d_model: int, hidden: int) -> None:
        super().__init__()
        self.w_in_MH = nn.Parameter(torch.empty(d_model, hidden))
        self.w_out_HM = nn.Parameter(torch.empty(hidden, d_model))

    def forward(self, x: Float[Tensor, "B S M"]) -> Float[Tensor, "B S M"]:
        if products_supported(x, self.w_in_MH, self.w_out_HM):
            return feed_forward(x, None, self.w_in_MH, self.w_out_HM)
        return gelu(x @ self.w_in_MH.to(x.dtype)) @ self.w_out_HM.to(x.dtype)
