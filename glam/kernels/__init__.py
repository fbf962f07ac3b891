"""A training step's work between matrix products, in C, on a CPU; and some of it whole.

`call(name, …)` runs a function of `kernels.c` on tensors that it can `serve`; who calls has torch's
operators for the others: another device, float64, or a machine without a compiler.
"""

from glam.kernels.build import library, switched_off
from glam.kernels.calls import CHUNKS, PAD, STEP, call, has, inner, multiplies, padded, serve, wide

__all__ = [
    "CHUNKS",
    "PAD",
    "STEP",
    "call",
    "has",
    "inner",
    "library",
    "multiplies",
    "padded",
    "serve",
    "switched_off",
    "wide",
]
