"""Where bfloat16 is too coarse."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 where it already is (the oracle tests run there)."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
