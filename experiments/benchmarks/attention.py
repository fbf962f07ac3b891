"""Causal attention with a trainable position bias, forward and backward, against torch's SDPA,
which is causal but has no bias at all; and against SDPA with the bias as its mask."""

from collections.abc import Iterator

import torch
from torch.nn import functional

from experiments.benchmarks.layer import TYPES
from experiments.benchmarks.timing import Work, interleaved
from glam.model.attention.attention import cpu_attention, document_mask
from glam.model.attention.position import PositionBias

SHAPES = [(8, 4, 128, 64), (8, 4, 256, 64), (4, 4, 512, 64), (2, 8, 1024, 64)]
REFERENCE = "SDPA, no bias"


def measure() -> Iterator[dict[str, object]]:
    for B, N, S, D in SHAPES:
        for name, dtype in TYPES.items():
            works = _works(B, N, S, D, dtype)
            for row in interleaved(works, REFERENCE, label=f"attention S {S} {name}"):
                yield {"length": S, "batch": B, "heads": N, "dtype": name, **row}


def _works(B: int, N: int, S: int, D: int, dtype: torch.dtype) -> dict[str, Work]:
    qkv = torch.randn(B, S, 3, N, D).to(dtype).requires_grad_()
    position = PositionBias(N, 32, 128)
    torch.nn.init.normal_(position.bias_NR)
    upstream = torch.randn(B, S, N, D).to(dtype)
    packed = document_mask((torch.arange(S) >= S // 3).long().expand(B, S), dtype)

    def backward(y: torch.Tensor) -> None:
        y.backward(upstream)
        qkv.grad = position.bias_NR.grad = None

    def sdpa(*, bias: bool) -> None:
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        mask = position(S).to(dtype) if bias else None
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=not bias)
        backward(y.transpose(1, 2))

    return {
        REFERENCE: lambda: sdpa(bias=False),
        "SDPA, bias as mask": lambda: sdpa(bias=True),
        "glam": lambda: backward(cpu_attention(qkv, position, None)),
        "glam, packed documents": lambda: backward(cpu_attention(qkv, position, packed)),
    }
