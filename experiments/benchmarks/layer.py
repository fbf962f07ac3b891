"""One MoE layer, forward and backward, against the dense limit and against other libraries.

limit:  the same two matrices and GELU as a dense feed-forward on top_k * T tokens, by autograd.
limitE: a balanced, pre-sorted batched product over the E experts: adds the weights' traffic.
Peers' experts have three matrices (SwiGLU); theirs are two thirds as wide, rounded down, so that
FLOPs are equal or in the peer's favour. Weights are in the activations' type for all.
"""

from collections.abc import Iterator
from itertools import cycle

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks.peers import moe_blocks, titan_block
from experiments.benchmarks.timing import Work, interleaved, peak_bytes
from glam.config import ModelConfig
from glam.model.feed_forward import FeedForward
from glam.model.init import initialize
from glam.model.moe.moe import MixtureOfExperts

TOP_K = 2
SHAPES = [(4096, 256, 16), (8192, 256, 64), (4096, 512, 8), (2048, 768, 16), (2048, 256, 64)]
INPUTS = 8
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def measure() -> Iterator[dict[str, object]]:
    for T, M, E in SHAPES:
        for name, dtype in TYPES.items():
            yield from _shape(T, M, E, name, dtype)
    yield from _tiny()


def _shape(T: int, M: int, E: int, name: str, dtype: torch.dtype) -> Iterator[dict[str, object]]:
    x = torch.randn(8, T // 8, M).to(dtype)
    many = x.repeat(TOP_K, 1, 1)
    sorted_rows = torch.randn(E, TOP_K * T // E, M).to(dtype)
    works = {
        "limit": trained(dense(M, 4 * M).to(dtype), many),
        "limitE": trained(Balanced(E, M, 4 * M).to(dtype), sorted_rows),
        "glam": trained(mixture(M, 4 * M, E, dtype), x),
    }
    peers = moe_blocks(M, 4 * M, E, TOP_K)
    if dtype == torch.bfloat16:
        peers |= titan_block(M, 4 * M, E, TOP_K)
    for peer, block in peers.items():
        works[peer] = trained(block.to(dtype), x)
    label = f"layer T {T} M {M} E {E} {name}"
    for row in interleaved(works, "limit", rounds=5, label=label):
        memory = peak_bytes(works[str(row["candidate"])]) / 1e6
        yield {"shape": f"T {T} M {M} E {E}", "dtype": name, **row, "peak_mb": memory}


def _tiny() -> Iterator[dict[str, object]]:
    """At the default size, against the dense twin's layer; weights in float32, as trained."""
    x = torch.randn(8, 128, 64).bfloat16()
    works = {"limit": trained(dense(64, TOP_K * 256), x)}
    works |= {f"glam E {E}": trained(mixture(64, 256, E), x) for E in (8, 16, 32, 64)}
    for row in interleaved(works, "limit", rounds=25, label="layer at the default size"):
        yield {"shape": "default (T 1024 M 64 H 256)", "dtype": "bfloat16", **row}


class Balanced(nn.Module):
    """`[E, rows, M]`, every expert with the same number of rows, sorted already."""

    def __init__(self, num_experts: int, d_model: int, hidden: int) -> None:
        super().__init__()
        self.w_in = nn.Parameter(torch.randn(num_experts, d_model, hidden) * d_model**-0.5)
        self.w_out = nn.Parameter(torch.randn(num_experts, hidden, d_model) * hidden**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(functional.gelu(torch.bmm(x, self.w_in)), self.w_out)


def dense(d_model: int, hidden: int) -> FeedForward:
    layer = FeedForward(d_model, hidden)
    initialize(layer, 0)
    return layer


def mixture(
    d_model: int, hidden: int, num_experts: int, dtype: torch.dtype = torch.float32
) -> MixtureOfExperts:
    """With experts in `dtype`; the gate is in float32 whatever they are."""
    layer = MixtureOfExperts(
        ModelConfig(d_model=d_model, d_ff=hidden, num_experts=num_experts, top_k=TOP_K, num_heads=1)
    )
    initialize(layer, 0)
    layer.experts.to(dtype)
    return layer


def trained(layer: nn.Module, x: Tensor) -> Work:
    """One forward and backward; gradients are given back, as `zero_grad` does. Each time with
    another input, so that routing makes new row counts, as at every step of a training."""
    inputs = cycle([torch.randn_like(x).requires_grad_() for _ in range(INPUTS)])
    upstream = torch.randn_like(x)

    def work() -> None:
        x = next(inputs)
        made = layer(x)
        y = made if isinstance(made, Tensor) else made[0]
        y.backward(upstream)
        x.grad = None
        layer.zero_grad(set_to_none=True)

    return work
