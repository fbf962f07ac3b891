"""Relative position bias (paper, section 4): a learned scalar per head and bucket of distances.

The buckets are those of T5 (arXiv 1910.10683) for a causal model: half of them hold one distance
each, the others grow logarithmically up to `max_distance`, and the last holds all beyond.
"""

import math
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def position_buckets(
    length: int, num_buckets: int, max_distance: int, device: torch.device | None = None
) -> Int[Tensor, "S"]:
    """The bucket of every distance 0, 1, … `length` - 1 between a query and an earlier key."""
    near = _near_buckets(num_buckets, max_distance)[:length]
    far = [num_buckets - 1] * (length - len(near))
    # Also where there is none; moved, since made on the meta device it would forget its values.
    return torch.tensor(near + far, dtype=torch.int64).to(device)


@cache
def _near_buckets(num_buckets: int, max_distance: int) -> list[int]:
    """Buckets of distances below `max_distance`. A list, since a cached tensor would belong to the
    device and mode of the first call."""
    exact = num_buckets // 2
    buckets = list(range(exact))
    for distance in range(exact, max_distance):
        octaves = math.log(distance / exact) / math.log(max_distance / exact)
        buckets.append(exact + int(octaves * (num_buckets - exact)))
    return buckets


class PositionBias(nn.Module):
    """The position bias of one layer."""

    def __init__(self, num_heads: int, num_buckets: int, max_distance: int) -> None:
        super().__init__()
        self.num_buckets, self.max_distance = num_buckets, max_distance
        self.bias_NR = nn.Parameter(torch.zeros(num_heads, num_buckets))

    def buckets(self, length: int) -> Int[Tensor, "S"]:
        """The bucket of every distance below `length`."""
        device = self.bias_NR.device
        return position_buckets(length, self.num_buckets, self.max_distance, device)

    def by_distance(self, length: int) -> Float[Tensor, "N S"]:
        """The bias of every head at every distance below `length`."""
        bucket_S = self.buckets(length)
        bucket_R = torch.arange(self.num_buckets, device=bucket_S.device)
        # A product, not a look-up: its gradient is summed in a fixed order on every device.
        return self.bias_NR @ (bucket_R[:, None] == bucket_S).to(self.bias_NR)

    def forward(self, length: int) -> Float[Tensor, "N S S"]:
        """The bias of query i and key j; -inf where j is ahead of i."""
        past_NS = self.by_distance(length).flip(-1)
        row = torch.cat([past_NS, torch.full_like(past_NS, -torch.inf)], -1)
        # Rows of 2S read with a stride of 2S - 1: each starts one to the left of the row above.
        rows = row[:, None].expand(-1, length, -1).flatten(1)[:, : length * (2 * length - 1)]
        return rows.view(-1, length, 2 * length - 1)[..., length - 1 :]
