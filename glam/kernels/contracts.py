"""What every kernel asks of its arguments: types, numbers of elements, ranges of indices.

All is checked before a kernel is called, since C reads and writes where an argument points to,
whatever lies there.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, cast

import torch
from torch import Tensor, nn

# Parameters of every function, without the last, the number of threads. Tensors: of the first
# tensor's type (x), float32 (s), int64 (l), bfloat16 (b), float32 or bfloat16 (w); a capital may be
# None. Numbers: int64 (n), float (f), int or truth value (i). TYPED functions exist for float32 and
# for bfloat16.
TYPED = {
    "gelu": "xxn",
    "geglu": "xxxn",
    "gelu_backward": "xxxn",
    "geglu_backward": "xxxxxn",
    "gated_gelu_backward": "xsxxsnn",
    "sum_of_choices": "xlSxnnnn",
    "rms_norm": "xsxsnnf",
    "rms_norm_backward": "xxssxsnn",
    "attention_weights": "xsXsnnnnnnf",
    "attention_weights_backward": "xxsnnnnf",
    "cross_entropy": "xlssnnfi",
    "pack_weights": "xsnnnnn",
    # In bfloat16 only where `has_gemm` is true of it:
    "attention_forward": "xsXxxnnnnnf",
    "attention_backward": "xxxsxnnnnnf",
    "experts_forward": "xwwllxxnnni",
    "experts_backward": "xxwwllxsxswwnnni",
    "feed_forward": "xSssXxxnnn",
    "feed_forward_backward": "xxSssXxxSssnnn",
    "linear": "xsxnnn",
    "linear_backward": "xxsxsnnni",
    "output_loss": "xwlsXWnnnffi",  # in bfloat16 only where the processor has AMX
}
UNTYPED = {
    "add_narrow": "sbn",
    "sort_by_expert": "llllnnnn",
    "route": "sSlssnnni",
    "route_backward": "sslsssnnni",
    "adafactor": "ssssnnnfffff",
    "adafactor_vector": "sssnfffff",
    "decode_ahead": "lllllllwwsslssssllnnffff",
    "draw_tokens": "sslslnnff",
    "decode": "lllllllwwsslssnnnff",
    "outside": "lnnn",
}
SIGNATURES = TYPED | UNTYPED
# Which arguments a function writes, of those that a step of training calls.
WRITTEN: dict[str, tuple[int, ...]] = {
    "gelu": (1,),
    "geglu": (2,),
    "gelu_backward": (2,),
    "geglu_backward": (3, 4),
    "gated_gelu_backward": (2, 3, 4),
    "sum_of_choices": (3,),
    "rms_norm": (2, 3),
    "rms_norm_backward": (4, 5),
    "attention_weights": (0, 3),
    "attention_weights_backward": (0, 2),
    "cross_entropy": (0, 2, 3),
    "attention_forward": (3, 4),
    "attention_backward": (3, 4),
    "experts_forward": (5, 6),
    "experts_backward": (8, 9, 10, 11),
    "output_loss": (3, 4, 5),
    "add_narrow": (0,),
    "sort_by_expert": (1, 2, 3),
    "route": (2, 3, 4),
    "route_backward": (1, 5),
    "feed_forward": (4, 5, 6),
    "feed_forward_backward": (7, 8, 9, 10),
    "linear": (2,),
    "linear_backward": (3, 4),
}
# The types that the arguments of each letter may have; `f` and `i` take what Python computes.
NUMBERS: dict[str, tuple[type, ...]] = {"n": (int,), "f": (float, int), "i": (int, bool)}
TYPES = {
    "s": (torch.float32,),
    "l": (torch.int64,),
    "b": (torch.bfloat16,),
    "w": (torch.float32, torch.bfloat16),
}
PLAIN = (Tensor, nn.Parameter)  # no other subclass: its data may lie elsewhere
CHUNKS, PAD, TILE, LANES = 32, 32, 32, 16  # as in the C sources
# Of the tables of decode.h, and where in `sizes` the vocabulary's stands.
PER_LAYER, BEHIND_LAYERS, PER_EXPERT, NUM_SIZES, VOCABULARY = 13, 3, 4, 13, 7

Sizes = Sequence[int | None]  # elements of each tensor; None where it is left out
# Elements that the tensors must have, from the number of threads, what they do have, and the
# numbers: below 0 at least so many, None any number.
Wanted = Callable[[int, Sizes, Sequence[int]], Sizes]


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _of_weights(threads: int, _: Sizes, numbers: Sequence[int]) -> Sizes:
    batch, heads, rows, keys, window, length, *_scale = numbers
    all_weights, bias = batch * heads * rows * keys, heads * (window + 2 * PAD)
    return (all_weights, bias, batch * length**2, -threads * (keys + PAD))


def _of_weights_backward(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    matrices, rows, keys, window, _scale = numbers
    return (matrices * rows * keys, matrices * rows * keys, matrices * (window + 2 * PAD))


def _of_attention(numbers: Sequence[int]) -> tuple[int, int, int, int]:
    """Of y, of a head's bias, of the mask, of the kept weights."""
    batch, length, heads, width, window, *_scale = numbers
    chunks = -(-length // TILE)
    kept = batch * heads * TILE**2 * chunks * (chunks + 1) // 2
    return batch * length * heads * width, window + 2 * PAD, batch * length**2, kept


def _of_attention_forward(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    y, bias, mask, kept = _of_attention(numbers)
    return (3 * y, numbers[2] * bias, mask, kept, y)


def _of_attention_backward(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    y, bias, _, kept = _of_attention(numbers)
    return (3 * y, y, kept, numbers[0] * numbers[2] * bias, 3 * y)


def _of_experts_forward(_: int, sizes: Sizes, numbers: Sequence[int]) -> Sizes:
    E, M, H, _w_is_f32 = numbers
    rows, w = sizes[4] or 0, E * M * H
    return (None, w, w, E + 1, rows, rows * _up(H, TILE), rows * M)


def _of_experts_backward(_: int, sizes: Sizes, numbers: Sequence[int]) -> Sizes:
    E, M, H, _w_is_f32 = numbers
    x, rows, w = sizes[0], sizes[5] or 0, E * M * H
    return (x, x, w, w, E + 1, rows, rows * _up(H, TILE), rows, rows * M, rows, w, w)


def _of_packed(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    count, n, m, _row, _column = numbers
    return (count * _up(n, 2) * _up(m, LANES), count * n * m)


def _of_choices(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    tokens, top_k, E, rows = numbers
    return (tokens * top_k, E, tokens * top_k, rows)


def _of_sums(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    tokens, top_k, width, num_rows = numbers
    return (num_rows * width, tokens * top_k, tokens * top_k, tokens * width)


def _of_route(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    T, E, K, _normalize = numbers
    return (T * E, E, T * K, T * K, T * E)


def _of_route_backward(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    T, E, K, _normalize = numbers
    return (T * K, T * E, T * K, T * K, T * E, T * E)


def _of_norm(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    rows, width, _eps = numbers
    return (rows * width, width, rows * width, rows)


def _of_norm_backward(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    rows, width = numbers
    return (rows * width, rows * width, width, rows, rows * width, CHUNKS * width)


def _of_gated(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    rows, width = numbers
    return (rows * width, rows, rows * width, rows * width, rows)


def _of_matrices(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    E, a, b, *_step = numbers
    return (E * a * b, E * a * b, E * a, E * b)


def _of_drawing(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    rows, V, *_sampling = numbers
    return (rows * V, rows, rows, V, V)


def _of_entropy(threads: int, _: Sizes, numbers: Sequence[int]) -> Sizes:
    rows, V, _cap, _with_gradient = numbers
    return (rows * V, rows, rows, -threads * V)


def _of_loss(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    tokens, M, V, *_rest = numbers
    return (tokens * M, V * M, tokens, tokens, tokens * M, V * M)


def _of_feed_forward(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    rows, M, H = numbers
    w, hidden = M * H, rows * _up(H, TILE)
    return (rows * M, w, w, w, hidden, hidden, rows * M)


def _of_feed_forward_backward(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    rows, M, H = numbers
    x, w, hidden = rows * M, M * H, rows * _up(H, TILE)
    return (x, x, w, w, w, hidden, hidden, x, w, w, w)


def _of_linear_backward(_t: int, _s: Sizes, numbers: Sequence[int]) -> Sizes:
    rows, K, N, _add = numbers
    return (rows * K, rows * N, K * N, rows * K, K * N)


SIZES: dict[str, Wanted] = {
    "gelu": lambda _t, _s, n: (n[0], n[0]),
    "geglu": lambda _t, _s, n: (n[0], n[0], n[0]),
    "gelu_backward": lambda _t, _s, n: (n[0], n[0], n[0]),
    "geglu_backward": lambda _t, _s, n: (n[0], n[0], n[0], n[0], n[0]),
    "gated_gelu_backward": _of_gated,
    "sum_of_choices": _of_sums,
    "rms_norm": _of_norm,
    "rms_norm_backward": _of_norm_backward,
    "attention_weights": _of_weights,
    "attention_weights_backward": _of_weights_backward,
    "cross_entropy": _of_entropy,
    "pack_weights": _of_packed,
    "attention_forward": _of_attention_forward,
    "attention_backward": _of_attention_backward,
    "experts_forward": _of_experts_forward,
    "experts_backward": _of_experts_backward,
    "add_narrow": lambda _t, _s, n: (n[0], n[0]),
    "sort_by_expert": _of_choices,
    "route": _of_route,
    "route_backward": _of_route_backward,
    "adafactor": _of_matrices,
    "adafactor_vector": lambda _t, _s, n: (n[0], n[0], n[0]),
    "draw_tokens": _of_drawing,
    "output_loss": _of_loss,
    "feed_forward": _of_feed_forward,
    "feed_forward_backward": _of_feed_forward_backward,
    "linear": lambda _t, _s, n: (n[0] * n[1], n[1] * n[2], n[0] * n[2]),
    "linear_backward": _of_linear_backward,
    "outside": lambda _t, _s, n: (n[0],),
}
# Numbers that are multiples of TILE in bfloat16.
_BOTH = ("experts", "feed_forward", "linear")  # widths, forward and backward
TILED = dict.fromkeys((name for name in TYPED if name.startswith(_BOTH)), (1, 2))
TILED["output_loss"] = (1,)
ROWS = {torch.bfloat16: 16, torch.float32: 1}  # an expert's are a multiple of so many


class Index(NamedTuple):
    """Numbers of a tensor that index another: `place` is of the tensor among the tensors, `limit`
    what all are below; they ascend by a `multiple`, in any order where it is 0."""

    place: int
    limit: int
    multiple: int = 0


def indices(name: str, dtype: torch.dtype, sizes: Sizes, numbers: Sequence[int]) -> Sequence[Index]:
    """What a call's tensors index, of the functions of TILED; the others look for themselves."""
    if not name.startswith("experts_"):
        return ()
    tokens, place = (sizes[0] or 0) // max(1, numbers[1]), 4 - (name == "experts_forward")
    rows = sizes[place + 1] or 0
    return (Index(place, rows + 1, ROWS[dtype]), Index(place + 1, tokens))


def of_decoding(threads: int, sizes: Sequence[int], rows: int, steps: int | None) -> Sizes:
    """`Wanted` of `decode` and, of so many steps, `decode_ahead`; `sizes` as in decode.h."""
    L, M, N, D, E, K, H, V, texts, C, *_ = sizes
    hidden, heads = max(H * K, M), L * texts * N * C
    workspace = rows * (3 * M + 4 * N * D + 2 * hidden + 2 * E) + threads * (C + _up(D, LANES))
    tables = (len(sizes), L * PER_LAYER + BEHIND_LAYERS, L * E * PER_EXPERT)
    cache = (heads * _up(D, 2), heads * _up(D, LANES), L * N * (C + LANES))
    state = (-workspace, -rows * K, -rows * K)
    if steps is None:
        return (*[rows] * 4, *tables, *cache, *state, None)  # logits of the wanted rows
    return (*[rows] * 4, *tables, *cache, *state, rows * V, steps * rows, V, V, steps * rows)


def may_be(letter: str, dtype: torch.dtype) -> tuple[Any, ...]:
    """What an argument of this letter may be, `dtype` the type of the first: types of elements,
    with NoneType where it may be left out, or of a number."""
    if letter in NUMBERS:
        return NUMBERS[letter]
    optional = (type(None),) if letter.isupper() else ()
    return (*TYPES.get(letter.lower(), (dtype,)), *optional)


def refuse_type(name: str, place: int, value: Any) -> NoReturn:
    """Raises TypeError for an argument that is none of what its letter stands for."""
    if isinstance(value, Tensor):
        check_layout(name, place, value)
    kind = f"tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
    wants = SIGNATURES[name][place]
    raise TypeError(f"{name}: argument {place + 1} is a {kind}, not what {wants!r} stands for")


def check_layout(name: str, place: int, value: Tensor) -> None:
    """Raises ValueError for a tensor that is no plain one in one piece of this machine's memory."""
    if type(value) in PLAIN and value.is_cpu and value.is_contiguous():
        return
    kind = type(value).__name__ if type(value) not in PLAIN else f"on {value.device}"
    shape, strides = tuple(value.shape), value.stride()
    where = f"{kind}, shape {shape}, strides {strides}"
    raise ValueError(f"{name}: argument {place + 1} has to be contiguous and on the CPU: {where}")


def check_decoding(
    name: str, given: Sequence[Any], sizes: Sizes, numbers: Sequence[Any], threads: int
) -> None:
    """Raises ValueError for what does not fit the sizes that are in a tensor of their own."""
    tensors: Sequence[Tensor] = given[3:6]
    wanted_rows, of_model, weights = tensors
    model = cast(list[int], of_model.tolist())  # pyright: ignore[reportUnknownMemberType]
    if len(model) != NUM_SIZES:
        raise ValueError(f"{name}: {len(model)} sizes of the model, not {NUM_SIZES}")
    wanted = of_decoding(threads, model, numbers[0], numbers[1] if "ahead" in name else None)
    check_sizes(name, sizes, wanted)
    outputs, room = int(wanted_rows.count_nonzero()) * model[VOCABULARY], sizes[13] or 0
    if outputs > room:
        raise ValueError(f"{name}: {room} elements for logits, and {outputs} are wanted")
    _, M, _, _, _, K, H, *_ = model
    widest = int(weights[PER_LAYER - 1 : -BEHIND_LAYERS : PER_LAYER].max())
    if widest > max(H * K, M):
        raise ValueError(f"{name}: a feed-forward is {widest} wide, and the workspace {H * K}")


def check_tiles(name: str, dtype: torch.dtype, numbers: Sequence[float]) -> None:
    """Raises ValueError for a width that is no multiple of TILE, of a kernel that needs one."""
    for place in TILED.get(name, ()) if dtype == torch.bfloat16 else ():
        if numbers[place] % TILE:
            raise ValueError(f"{name}: a width of {numbers[place]} is no multiple of {TILE}")


def refuse_index(name: str) -> NoReturn:
    """Raises IndexError for what a kernel has met itself."""
    raise IndexError(f"{name}: an index is outside of what it indexes")


def refuse_indices(name: str, index: Index, value: Tensor) -> NoReturn:
    """Raises IndexError for a tensor with a number that is none of its indices, or out of order."""
    low, high = value.aminmax() if value.numel() else (0, 0)
    order = f", ascending by multiples of {index.multiple}" if index.multiple else ""
    words = f"has numbers from {int(low)} to {int(high)}, and may have 0 to {index.limit - 1}"
    raise IndexError(f"{name}: tensor {index.place + 1} {words}{order}")


def check_sizes(name: str, sizes: Sizes, wanted: Sizes) -> None:
    """Raises ValueError for the first tensor with another number of elements than its shape has."""
    for place, (found, want) in enumerate(zip(sizes, wanted, strict=True)):
        if not fits(found, want):
            least = "at least " if want is not None and want < 0 else ""
            words = f"has {found} elements, and its shape {least}{abs(want or 0)}"
            raise ValueError(f"{name}: tensor {place + 1} {words}")


def fits(found: int | None, want: int | None) -> bool:
    """Whether a tensor has the elements that it must have."""
    if found is None or want is None or found == want:
        return True
    return want < 0 and found >= -want
