"""CPU kernels in C for a training step: what lies between its matrix products, and where the
processor has AVX-512 or AMX also whole attention, whole experts and the whole output loss.

`call(name, …)` runs a function of `kernels.c` on tensors for which `supported` is true. Callers
keep torch's operators for all others: another device, float64, no C compiler.
"""

from glam.kernels.build import library, switched_off
from glam.kernels.calls import (
    CHUNKS,
    PAD,
    TILE,
    bind,
    call,
    has,
    has_gemm,
    is_float32,
    pad,
    supported,
    unpad,
)

__all__ = [
    "CHUNKS",
    "PAD",
    "TILE",
    "bind",
    "call",
    "has",
    "has_gemm",
    "is_float32",
    "library",
    "pad",
    "supported",
    "switched_off",
    "unpad",
]
