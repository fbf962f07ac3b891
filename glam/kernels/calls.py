"""`kernels.c` for tensors, without gaps. Shapes are the caller's affair."""

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
# Parameters of each function, the last of which is always the number of threads: tensors of the
# first one's type (x), float32 (s) or int64 (l), an integer (n), a float (f), whether or not (i).
# Those of TYPED come in two forms, for the two types of the first.
TYPED = {
    "gelu": "xxn",
    "geglu": "xxxn",
    "gelu_backward": "xxxn",
    "geglu_backward": "xxxxxn",
    "gated_gelu_backward": "xsxxsnn",
    "sum_of_choices": "xlsxnnn",
    "rms_norm": "xsxsnnf",
    "rms_norm_backward": "xxssxsnn",
    "attention_weights": "xsxsnnnnnnf",
    "attention_weights_backward": "xxsnnnnf",
    "cross_entropy": "xlssnnfi",
    # Where the processor has products for the type:
    "attention_forward": "xsxxxnnnnnf",
    "attention_backward": "xxxsxnnnnnf",
    "experts_forward": "xwwllxxnnni",  # weights (w) are in float32, or as narrow as x
    "experts_backward": "xxwwllxsxswwnnni",
}
UNTYPED = {
    "add_narrow": "sbn",
    "place": "llllnn",
    "route": "slssnnni",
    "route_backward": "sslsssnnni",
    "adafactor": "ssssnnnfffff",
    "adafactor_vector": "sssnfffff",
    "output_loss_bf16": "bwlsbwnnnffi",  # where the processor has tiles (AMX)
}
SIGNATURES = TYPED | UNTYPED
NUMBERS: dict[str, Any] = {"n": ctypes.c_int64, "f": ctypes.c_float, "i": ctypes.c_int}
TYPES = {
    "s": (torch.float32,),
    "l": (torch.int64,),
    "b": (torch.bfloat16,),
    "w": (torch.float32, torch.bfloat16),
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


def has(name: str) -> bool:
    """Whether the processor has what a kernel asks for, whose name has its type."""
    found = library()
    return found is not None and hasattr(found, name)


def multiplies(dtype: torch.dtype) -> bool:
    """Whether there are products of our own, of such matrices. What they do is whole steps of the
    model, attention and experts, of which there are forms for the same types."""
    return has(f"attention_forward_{SUFFIX[dtype]}")


@functools.cache
def _function(name: str, dtype: torch.dtype) -> Callable[..., int]:
    found = library()
    assert found is not None, "ask `serve` first"
    function = found[f"{name}_{SUFFIX[dtype]}" if name in TYPED else name]
    letters = SIGNATURES[name] + "i"
    function.argtypes = [NUMBERS.get(letter, ctypes.c_void_p) for letter in letters]
    function.restype = ctypes.c_int
    return function


def call(name: str, first: Tensor, *rest: Tensor | float | None) -> int:
    """Sizes are the caller's affair; types and gaps are looked at here, since a kernel can't."""
    args = list[float | None]()
    for letter, value in zip(SIGNATURES[name], (first, *rest), strict=True):
        if isinstance(value, Tensor):
            assert letter not in NUMBERS, (name, letter)
            expected = TYPES.get(letter, (first.dtype,))
            assert value.dtype in expected, (name, letter, value.dtype)
            assert value.is_contiguous(), (name, letter, value.shape)
            args.append(value.data_ptr())
        else:
            args.append(value)
    return _function(name, first.dtype)(*args, torch.get_num_threads())


def padded(by_offset: Tensor, end: float = 0) -> Tensor:
    """A bias `[heads, window]`, the farthest distance first, as attention's kernels take it."""
    before = by_offset.new_zeros(len(by_offset), PAD)
    return torch.cat([before, by_offset, torch.full_like(before, end)], 1)


def inner(padded: Tensor) -> Tensor:
    """The other way."""
    return padded[:, PAD:-PAD]
