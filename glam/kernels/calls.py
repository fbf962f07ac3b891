"""`kernels.c` for tensors. Shapes are the caller's affair; what comes is made contiguous."""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from glam.kernels.build import library

SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}
CHUNKS, PAD, STEP = 32, 32, 32  # as in kernels.c
PLAIN = (Tensor, nn.Parameter)  # and no subclass, whose data lies elsewhere
LETTERS: dict[str, Any] = {
    "p": ctypes.c_void_p,
    "n": ctypes.c_int64,
    "f": ctypes.c_float,
    "i": ctypes.c_int,
}
# Parameters of each function; the last is always the number of threads. Those of TYPED come in two
# forms, for the type of the first tensor.
TYPED = {
    "gelu": "ppn",
    "geglu": "pppn",
    "gelu_backward": "pppn",
    "geglu_backward": "pppppn",
    "gated_gelu_backward": "pppppnn",
    "sum_of_choices": "ppppnnn",
    "rms_norm": "ppppnnf",
    "rms_norm_backward": "ppppppnn",
    "attention_weights": "ppppnnnnnnf",
    "attention_weights_backward": "pppnnnnf",
    "cross_entropy": "ppppnnfi",
}
UNTYPED = {
    "add_narrow": "ppn",
    "place": "ppppnn",
    "route": "ppppnnni",
    "route_backward": "ppppppnnni",
    "adafactor": "ppppnnnfffff",
    # Where the processor multiplies bfloat16:
    "attention_forward": "pppppnnnnnf",
    "attention_backward": "pppppnnnnnf",
    "experts_forward": "pppppppnnn",
    "experts_backward": "ppppppppppppnnn",
}


def serve(*tensors: Tensor) -> bool:
    """Whether there are kernels for such tensors, and here."""
    for x in tensors:
        if type(x) not in PLAIN or not x.is_cpu or x.dtype not in SUFFIX:
            return False
    return library() is not None


def wide(*tensors: Tensor) -> bool:
    """Whether there are kernels for them where arithmetic is not narrow: what they scale may be."""
    return serve(*tensors) and all(x.dtype == torch.float32 for x in tensors)


def multiplies() -> bool:
    """Whether there are products of our own."""
    found = library()
    return found is not None and hasattr(found, "experts_forward")


@functools.cache
def _function(name: str, dtype: torch.dtype) -> Callable[..., int]:
    typed = name in TYPED
    found = library()
    assert found is not None, "ask `serve` first"
    function = found[f"{name}_{SUFFIX[dtype]}" if typed else name]
    function.argtypes = [LETTERS[letter] for letter in (TYPED if typed else UNTYPED)[name] + "i"]
    function.restype = ctypes.c_int
    return function


def call(name: str, first: Tensor, *rest: Tensor | float | None) -> int:
    """Every tensor must be contiguous."""
    args = [x.data_ptr() if isinstance(x, Tensor) else x for x in rest]
    return _function(name, first.dtype)(first.data_ptr(), *args, torch.get_num_threads())


def padded(by_offset: Tensor, end: float = 0) -> Tensor:
    """A bias `[heads, window]`, the farthest distance first, as attention's kernels take it."""
    before = by_offset.new_zeros(len(by_offset), PAD)
    return torch.cat([before, by_offset, torch.full_like(before, end)], 1)


def inner(padded: Tensor) -> Tensor:
    """The other way."""
    return padded[:, PAD:-PAD]
