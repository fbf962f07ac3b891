"""The name of the set of kernels that serves this processor. Sets round differently."""

import ctypes

from glam.kernels.build import library
from glam.kernels.calls import has

TORCH = "torch's operators"


def kernel_set(precision: str) -> str:
    """The kernels for a model in `precision` (`bfloat16` or `float32`) on the CPU, by the
    instruction set of their matrix products, one of `OURS`: `elementwise` where torch
    multiplies."""
    built = library()
    if built is None:
        return TORCH
    if precision == "bfloat16":
        if has("output_loss_bf16"):
            return "amx"
        return "avx512" if has("attention_forward_bf16") else "elementwise"
    name = built.kernel_set
    name.restype = ctypes.c_char_p
    return name().decode()
