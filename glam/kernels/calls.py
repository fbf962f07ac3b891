"""Calls functions of `kernels.c`. All that they ask of their arguments is checked here
(`contracts.py`): what does not fit is refused, not read."""

import ctypes
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glam.kernels.build import library
from glam.kernels.contracts import (
    NUMBERS,
    PAD,
    PLAIN,
    SIGNATURES,
    SIZES,
    TYPED,
    TYPES,
    Sizes,
    check_decoding,
    check_tiles,
    fits,
    indices,
    refuse_indices,
    refuse_layout,
    refuse_size,
    refuse_type,
)

SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}
C_NUMBERS: dict[str, Any] = {"n": ctypes.c_int64, "f": ctypes.c_float, "i": ctypes.c_int}
OUTSIDE = 2  # what a function returns that has met an index outside of what it indexes


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


class _Kernel(NamedTuple):
    """A C function, and of each argument the types that a tensor may have (None: a number), and
    whether it may be left out."""

    function: Callable[..., int]
    arguments: tuple[tuple[tuple[torch.dtype, ...] | None, bool], ...]


@functools.cache
def _kernel(name: str, dtype: torch.dtype) -> _Kernel:
    built = library()
    assert built is not None, "ask `supported` first"
    function = built[f"{name}_{SUFFIX[dtype]}" if name in TYPED else name]
    letters = SIGNATURES[name]
    function.argtypes = [C_NUMBERS.get(letter, ctypes.c_void_p) for letter in letters + "i"]
    function.restype = ctypes.c_int
    kinds = [None if one in NUMBERS else TYPES.get(one.lower(), (dtype,)) for one in letters]
    optional = [letter.isupper() for letter in letters]
    return _Kernel(function, tuple(zip(kinds, optional, strict=True)))


def call(name: str, first: Tensor, *rest: Tensor | float | None) -> int:
    """Runs the C function `name` with torch's number of threads, and returns what it returns.

    `first` decides the type of a TYPED function; None stands for a tensor that is left out. Raises
    TypeError for an argument of another kind, ValueError for a tensor with gaps or of another size
    than its shape in C has, IndexError for an index outside of what it indexes.
    """
    return bind(name, first, *rest)()


def bind(name: str, first: Tensor, *rest: Tensor | float | None) -> Callable[[], int]:
    """`call` with these arguments, to be made many times: the tensors, whose numbers may change
    between calls, are kept. Indices are checked now; those of `decode` at every call."""
    kernel, kept = _kernel(name, first.dtype), (first, *rest)
    args, tensors, sizes = list[float | None](), list[Tensor | None](), list[int | None]()
    numbers = list[Any]()
    for (types, optional), value in zip(kernel.arguments, kept, strict=True):
        if types is None:
            if type(value) not in (int, float, bool):
                refuse_type(name, len(args), value, SIGNATURES[name][len(args)])
            numbers.append(value)
            args.append(value)  # pyright: ignore[reportArgumentType]
            continue
        if not isinstance(value, Tensor):
            if value is not None or not optional:
                refuse_type(name, len(args), value, SIGNATURES[name][len(args)])
            args.append(None)
            sizes.append(None)
            tensors.append(None)
        else:
            if value.dtype not in types:
                refuse_type(name, len(args), value, SIGNATURES[name][len(args)])
            if type(value) not in PLAIN or not value.is_cpu or not value.is_contiguous():
                refuse_layout(name, len(args), value)
            args.append(value.data_ptr())
            sizes.append(value.numel())
            tensors.append(value)
    threads = torch.get_num_threads()
    _check(name, tensors, sizes, numbers, threads)
    return _bound(name, kernel.function, args, threads, kept)


def _bound(
    name: str, function: Callable[..., int], args: list[float | None], threads: int, kept: object
) -> Callable[[], int]:
    def run(_: object = kept) -> int:
        returned = function(*args, threads)
        if returned == OUTSIDE:
            raise IndexError(f"{name}: an index is outside of what it indexes")
        return returned

    return run


def _check(
    name: str, tensors: list[Tensor | None], sizes: Sizes, numbers: list[Any], threads: int
) -> None:
    """Raises ValueError and IndexError as `call` does."""
    if name in ("decode", "decode_ahead"):
        check_decoding(name, tensors, sizes, numbers, threads)
        return
    wanted = SIZES[name](threads, sizes, numbers)
    if tuple(sizes) != wanted and not all(map(fits, sizes, wanted)):
        refuse_size(name, sizes, wanted)
    check_tiles(name, numbers)
    for index in indices(name, tensors[0], sizes, numbers):
        value = tensors[index.place]
        assert value is not None
        look = _kernel("outside", torch.int64).function
        if look(value.data_ptr(), value.numel(), index.limit, index.multiple, 1):
            refuse_indices(name, index, value)


def pad(bias: Tensor, end: float = 0) -> Tensor:
    """A bias [heads, window], the farthest distance first, as the kernels of attention take it:
    [heads, PAD + window + PAD], zeros in front and `end` behind."""
    start = bias.new_zeros(len(bias), PAD)
    return torch.cat([start, bias, torch.full_like(start, end)], 1)


def unpad(padded: Tensor) -> Tensor:
    """Inverse of `pad`: [heads, PAD + window + PAD] to [heads, window]."""
    return padded[:, PAD:-PAD]
