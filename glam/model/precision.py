"""Float32 where bfloat16 is too coarse."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32; float64 stays, which the tests' oracles use."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
