import math

import pytest
import torch

from glam.model.attention.position import PositionBias, position_buckets


def by_definition(distance: int, buckets: int, max_distance: int) -> int:
    """T5 (arXiv 1910.10683), causal."""
    exact = buckets // 2
    if distance < exact:
        return distance
    share = math.log(distance / exact) / math.log(max_distance / exact)
    return min(buckets - 1, exact + int(share * (buckets - exact)))


@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (8, 20), (2, 3), (7, 50)])
def test_distances_fall_into_t5s_buckets(buckets, max_distance):
    expected = [by_definition(d, buckets, max_distance) for d in range(300)]
    assert position_buckets(300, buckets, max_distance).tolist() == expected


def test_the_bias_depends_on_the_distance_alone():
    position = PositionBias(3, 32, 128).double()
    torch.nn.init.normal_(position.bias_NR)
    bias, bucket = position(150), position_buckets(150, 32, 128)
    for i, j in [(0, 0), (149, 0), (149, 149), (80, 3), (7, 6)]:
        torch.testing.assert_close(bias[:, i, j], position.bias_NR[:, bucket[i - j]])
    ahead = torch.ones(150, 150, dtype=torch.bool).triu(1)
    assert (bias[:, ahead] == -torch.inf).all()
    assert bias[:, ~ahead].isfinite().all()


def test_the_gradient_of_a_bucket_sums_over_its_pairs():
    position, S = PositionBias(2, 32, 128).double(), 40
    weight = torch.randn(2, S, S, dtype=torch.float64).tril()
    (position(S) * weight).sum().backward()
    distance = torch.arange(S)[:, None] - torch.arange(S)
    bucket = position_buckets(S, 32, 128)[distance.clamp(min=0)]
    for r in range(32):
        expected = (weight * ((bucket == r) & (distance >= 0))).sum((1, 2))
        torch.testing.assert_close(position.bias_NR.grad[:, r], expected)
