"""Calls functions of `kernels.c` on contiguous tensors. Types and strides are checked here, shapes
by the caller."""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from glam.kernels.build import library

SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}
CHUNKS, PAD, TILE = 32, 32, 32  # as in the C sources
PLAIN = (Tensor, nn.Parameter)  # no other subclass: its data may lie elsewhere
# Parameters of every function, without the last, the number of threads. Tensors: of the first
# tensor's type (x), float32 (s), int64 (l), bfloat16 (b), float32 or bfloat16 (w). Numbers: int64
# (n), float (f), int or truth value (i). TYPED functions exist for float32 and for bfloat16.
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
    "pack_weights": "xsnnnnn",
    # bfloat16 only where `has_gemm` is true of it:
    "attention_forward": "xsxxxnnnnnf",
    "attention_backward": "xxxsxnnnnnf",
    "experts_forward": "xwwllxxnnni",
    "experts_backward": "xxwwllxsxswwnnni",
    "output_loss": "xwlsxwnnnffi",  # bfloat16 only where the processor has AMX
}
UNTYPED = {
    "add_narrow": "sbn",
    "sort_by_expert": "llllnn",
    "route": "slssnnni",
    "route_backward": "sslsssnnni",
    "adafactor": "ssssnnnfffff",
    "adafactor_vector": "sssnfffff",
    "decode_ahead": "lllllllwwsslssssllnnffff",
    "draw_tokens": "sslslnnff",
    "decode": "lllllllwwsslssnnnff",
    "feed_forward_f32": "sssssssnnn",
    "feed_forward_backward_f32": "sssssssssssnnn",
    "linear_f32": "sssnnn",
    "linear_backward_f32": "sssssnnni",
}
SIGNATURES = TYPED | UNTYPED
NUMBERS: dict[str, Any] = {"n": ctypes.c_int64, "f": ctypes.c_float, "i": ctypes.c_int}
TYPES = {
    "s": (torch.float32,),
    "l": (torch.int64,),
    "b": (torch.bfloat16,),
    "w": (torch.float32, torch.bfloat16),
}


def supported(*tensors: Tensor) -> bool:
    """Whether the kernels take these tensors: plain CPU tensors in float32 or bfloat16, where the
    library could be built."""
    for x in tensors:
        if type(x) not in PLAIN or not x.is_cpu or x.dtype not in SUFFIX:
            return False
    return library() is not None


def is_float32(*tensors: Tensor) -> bool:
    """Whether the kernels take these tensors in places that are float32 for every element type:
    scales, biases, gates."""
    return supported(*tensors) and all(x.dtype == torch.float32 for x in tensors)


def has(name: str) -> bool:
    """Whether the library of this processor has the C function `name`, type suffix included."""
    built = library()
    return built is not None and hasattr(built, name)


def has_gemm(dtype: torch.dtype) -> bool:
    """Whether the library has matrix products of this type, and with them the kernels for whole
    attention and whole experts: AVX-512 for float32, AVX512_BF16 or AMX for bfloat16."""
    return has(f"attention_forward_{SUFFIX[dtype]}")


@functools.cache
def _function(name: str, dtype: torch.dtype) -> Callable[..., int]:
    built = library()
    assert built is not None, "ask `supported` first"
    function = built[f"{name}_{SUFFIX[dtype]}" if name in TYPED else name]
    letters = SIGNATURES[name] + "i"
    function.argtypes = [NUMBERS.get(letter, ctypes.c_void_p) for letter in letters]
    function.restype = ctypes.c_int
    return function


def call(name: str, first: Tensor, *rest: Tensor | float | None) -> int:
    """Runs the C function `name` with torch's number of threads, and returns what it returns.

    `first` decides the type of a TYPED function; None stands for a missing tensor. Shapes are not
    checked. Raises AssertionError for a tensor of the wrong type or with gaps.
    """
    return bind(name, first, *rest)()


def bind(name: str, first: Tensor, *rest: Tensor | float | None) -> Callable[[], int]:
    """`call` with these arguments, to be made many times: the tensors, whose numbers may change
    between calls, are kept."""
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
    function, kept = _function(name, first.dtype), (first, *rest)
    threads = torch.get_num_threads()

    def run(_: object = kept) -> int:
        return function(*args, threads)

    return run


def pad(bias: Tensor, end: float = 0) -> Tensor:
    """A bias [heads, window], the farthest distance first, as the kernels of attention take it:
    [heads, PAD + window + PAD], zeros in front and `end` behind."""
    start = bias.new_zeros(len(bias), PAD)
    return torch.cat([start, bias, torch.full_like(start, end)], 1)


def unpad(padded: Tensor) -> Tensor:
    """Inverse of `pad`: [heads, PAD + window + PAD] to [heads, window]."""
    return padded[:, PAD:-PAD]
