"""The tied output and its cross-entropy, forward and backward, against its three products alone."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from experiments.benchmarks.layer import TYPES
from experiments.benchmarks.timing import Work, interleaved, peak_bytes
from glam.model.loss import plain_losses, token_losses

SHAPES = [(1024, 64, 2048), (2048, 256, 32_000), (1024, 256, 256_000)]  # tokens, M, vocabulary
REFERENCE = "products alone"


def measure() -> Iterator[dict[str, object]]:
    for T, M, V in SHAPES:
        for name, dtype in TYPES.items():
            works = _works(T, M, V, dtype)
            rounds = 15 if V < 10_000 else 3
            for row in interleaved(works, REFERENCE, rounds=rounds, label=f"loss V {V} {name}"):
                memory = peak_bytes(works[str(row["candidate"])]) / 1e6
                sizes = {"tokens": T, "d_model": M, "vocabulary": V, "dtype": name}
                yield {**sizes, **row, "peak_mb": memory}


def _works(T: int, M: int, V: int, dtype: torch.dtype) -> dict[str, Work]:
    x = torch.randn(T, M).to(dtype).requires_grad_()
    w = nn.Parameter(torch.randn(V, M) * M**-0.5)
    targets = torch.randint(0, V, (T,))
    rows = min(T, 2**25 // V)  # as ours: so that the products' own logits do not fill the memory

    def products() -> None:
        narrow = w.detach().to(dtype)
        for piece in x.detach().split(rows):
            logits = piece @ narrow.t()
            torch.mm(logits, narrow)
            torch.mm(logits.t(), piece)

    def trained(loss: torch.Tensor) -> None:
        loss.backward()
        x.grad = w.grad = None

    works: dict[str, Work] = {
        REFERENCE: products,
        "glam": lambda: trained(token_losses(x, w, targets, None).mean),
    }
    if T * V < 2**27:
        works["cross_entropy"] = lambda: trained(plain_losses(x, w, targets, None).mean())
    if hasattr(functional, "linear_cross_entropy"):
        linear = functional.linear_cross_entropy
        works["linear_cross_entropy"] = lambda: trained(linear(x, w.to(dtype), targets))
    return works
