"""Calls functions of `kernels.c`. All that they ask of their arguments is checked here
(`contracts.py`): what does not fit is refused, not read."""

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from glam.kernels.build import library
from glam.kernels.contracts import (
    PAD,
    PLAIN,
    SIGNATURES,
    SIZES,
    TILED,
    TYPED,
    Sizes,
    check_decoding,
    check_layout,
    check_sizes,
    check_tiles,
    indices,
    may_be,
    refuse_index,
    refuse_indices,
    refuse_type,
)
from glam.kernels.operators import register

SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}
_is_profiled = cast(Callable[[], bool], torch.autograd._profiler_enabled)  # pyright: ignore
C_NUMBERS: dict[str, Any] = {"n": ctypes.c_int64, "f": ctypes.c_float, "i": ctypes.c_int}
OUTSIDE = 2  # what a function returns that has met an index outside of what it indexes


def supported(*tensors: Tensor) -> bool:
    """Whether the kernels take these tensors: plain CPU tensors in float32 or bfloat16, where the
    library could be built."""
    for x in tensors:
        if type(x) not in PLAIN or not x.is_cpu or x.dtype not in SUFFIX:
            return False
    return is_built()


def is_built() -> bool:
    """Whether there is a library of kernels here."""
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
    attention and whole experts: always for float32, AVX512_BF16 or AMX for bfloat16."""
    return has(f"attention_forward_{SUFFIX[dtype]}")


class _Kernel(NamedTuple):
    """A C function, and what each of its arguments may be: types of elements of a tensor, with
    NoneType where it may be left out; or types of a number."""

    function: Callable[..., int]
    arguments: tuple[tuple[Any, ...], ...]
    is_decoding: bool


@functools.cache
def _kernel(name: str, dtype: torch.dtype) -> _Kernel:
    built = library()
    assert built is not None, "ask `supported` first"
    function = built[f"{name}_{SUFFIX[dtype]}" if name in TYPED else name]
    letters = SIGNATURES[name]
    function.argtypes = [C_NUMBERS.get(letter, ctypes.c_void_p) for letter in letters + "i"]
    function.restype = ctypes.c_int
    arguments = tuple(may_be(letter, dtype) for letter in letters)
    return _Kernel(function, arguments, name.startswith("decode"))


def call(name: str, first: Tensor, *rest: Tensor | float | None) -> int:
    """Runs the C function `name` with torch's number of threads, and returns what it returns.

    `first` decides the type of a TYPED function; None stands for a tensor that is left out. Raises
    TypeError for an argument of another kind, ValueError for a tensor with gaps or of another size
    than its shape in C has, IndexError for an index outside of what it indexes. In a graph that
    torch compiles it is the operator of that name, which raises RuntimeError for what C returns.
    """
    if torch.compiler.is_compiling():
        getattr(torch.ops.glam, name)(first, *rest)
        return 0
    if _is_profiled():
        with torch.profiler.record_function(f"glam::{name}"):
            return _run(name, first, *rest)
    return _run(name, first, *rest)


def _run(name: str, first: Tensor, *rest: Tensor | float | None) -> int:
    kernel = _kernel(name, first.dtype)
    returned = kernel.function(*_checked(name, kernel, (first, *rest)))
    if returned == OUTSIDE:
        refuse_index(name)
    return returned


def bind(name: str, first: Tensor, *rest: Tensor | float | None) -> Callable[[], int]:
    """`call` with these arguments, to be made many times: the tensors, whose numbers may change
    between calls, are kept. Indices are checked now; those of `decode` at every call."""
    kernel, kept = _kernel(name, first.dtype), (first, *rest)
    args, function = _checked(name, kernel, kept), kernel.function

    def run(_: object = kept) -> int:
        returned = function(*args)
        if returned == OUTSIDE:
            refuse_index(name)
        return returned

    return run


def _checked(name: str, kernel: _Kernel, given: tuple[Any, ...]) -> list[Any]:
    """The arguments as C takes them, the number of threads last. Raises as `call` does."""
    args, sizes, numbers = list[Any](), list[int | None](), list[Any]()
    for types, value in zip(kernel.arguments, given, strict=True):
        kind = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is Tensor or kind is nn.Parameter:  # no subclass: its data may lie elsewhere
            if value.dtype not in types:
                refuse_type(name, len(args), value)
            # On another device? Asked of the first alone, for the time it takes; of meta by the 0.
            address = value.data_ptr()
            if not value.is_contiguous() or not (args or value.is_cpu) or not address:
                check_layout(name, len(args), value)
            args.append(address)
            sizes.append(value.numel())
        elif kind in types:
            args.append(value)
            if value is None:
                sizes.append(None)
            else:
                numbers.append(value)
        else:
            refuse_type(name, len(args), value)
    threads = torch.get_num_threads()
    if kernel.is_decoding:
        check_decoding(name, given, sizes, numbers, threads)
    else:
        wanted = SIZES[name](threads, sizes, numbers)
        if tuple(sizes) != wanted:
            check_sizes(name, sizes, wanted)
        if name in TILED:
            _check_indices(name, given, sizes, numbers)
    args.append(threads)
    return args


def _check_indices(name: str, given: tuple[Any, ...], sizes: Sizes, numbers: Sequence[int]) -> None:
    check_tiles(name, given[0].dtype, numbers)
    look = _kernel("outside", torch.int64).function
    for index in indices(name, given[0].dtype, sizes, numbers):
        value: Tensor = given[index.place]
        if look(value.data_ptr(), value.numel(), index.limit, index.multiple, 1):
            refuse_indices(name, index, value)


# A compiler takes what these return as it is now, and does not look into them.
for found in (is_built, has, has_gemm):
    # As torch.compiler.assume_constant_result, which would import a compiler.
    found._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
OPERATORS = register(_run)


def pad(bias: Tensor, end: float = 0) -> Tensor:
    """A bias [heads, window], the farthest distance first, as the kernels of attention take it:
    [heads, PAD + window + PAD], zeros in front and `end` behind."""
    start = bias.new_zeros(len(bias), PAD)
    return torch.cat([start, bias, torch.full_like(start, end)], 1)


def unpad(padded: Tensor) -> Tensor:
    """Inverse of `pad`: [heads, PAD + window + PAD] to [heads, window]."""
    return padded[:, PAD:-PAD]
