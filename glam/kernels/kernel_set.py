"""The name of the kernels that this processor gets. Rounding differs between the sets."""

from glam.kernels.build import library
from glam.kernels.calls import has

TORCH = "torch's operators"


def kernel_set(precision: str) -> str:
    """For a model in `precision` (`bfloat16` or `float32`) on the CPU, by its matrix products:
    `amx` (tiles), `avx512`, or `elementwise` where torch multiplies and kernels do the rest."""
    if library() is None:
        return TORCH
    if precision == "bfloat16" and has("output_loss_bf16"):
        return "amx"
    suffix = "bf16" if precision == "bfloat16" else "f32"
    return "avx512" if has(f"attention_forward_{suffix}") else "elementwise"
