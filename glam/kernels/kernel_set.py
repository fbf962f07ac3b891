"""The name of the set of kernels that serves this processor. Sets round differently."""

from glam.kernels.build import library
from glam.kernels.calls import has

TORCH = "torch's operators"


def kernel_set(precision: str) -> str:
    """The kernels for a model in `precision` (`bfloat16` or `float32`) on the CPU, by the name of
    their matrix products: `amx`, `avx512`, or `elementwise` where torch multiplies."""
    if library() is None:
        return TORCH
    if precision == "bfloat16" and has("output_loss_bf16"):
        return "amx"
    suffix = "bf16" if precision == "bfloat16" else "f32"
    return "avx512" if has(f"attention_forward_{suffix}") else "elementwise"
