"""Normalisation by root mean square with a learned scale."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-6


class RMSNorm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale_M = nn.Parameter(torch.ones(size))

    def forward(self, x: Float[Tensor, "B S M"]) -> Float[Tensor, "B S M"]:
        return functional.rms_norm(x, self.scale_M.shape, self.scale_M.to(x.dtype), EPSILON)
