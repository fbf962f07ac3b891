"""CPU kernels in C for a training step: what lies between its matrix products, and where the
processor has AVX-512 or AMX also whole attention, whole experts and the whole output loss.

`call(name, …)` runs a function of `kernels.c` on tensors for which `supported` is true. Callers
keep torch's operators for all others: another device, float64, no C compiler. `text_library()` has
the functions of `text.c`, which prepare text.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from glam.kernels.build import library, switched_off, text_library

if TYPE_CHECKING:
    from glam.kernels.calls import (
        bind,
        call,
        has,
        has_gemm,
        is_built,
        is_float32,
        pad,
        supported,
        unpad,
    )
    from glam.kernels.contracts import CHUNKS, PAD, TILE


def __getattr__(name: str) -> Any:
    """What takes tensors, imported late: whoever prepares text needs no torch."""
    if name.startswith("_"):
        raise AttributeError(name)
    # `from glam.kernels import calls` would ask this function for `calls`.
    module = "contracts" if name.isupper() else "calls"
    found = getattr(import_module(f"glam.kernels.{module}"), name)
    if name in __all__:
        globals()[name] = found  # the next time it is here
    return found


__all__ = [
    "CHUNKS",
    "PAD",
    "TILE",
    "bind",
    "call",
    "has",
    "has_gemm",
    "is_built",
    "is_float32",
    "library",
    "pad",
    "supported",
    "switched_off",
    "text_library",
    "unpad",
]
