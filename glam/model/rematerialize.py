"""Activation rematerialization: less memory, and a second forward pass within the backward pass."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import torch
from torch.utils import checkpoint

P = ParamSpec("P")
Y = TypeVar("Y")


def called(function: Callable[P, Y], *args: P.args, **kwargs: P.kwargs) -> Y:
    """`function(*args)`, without rematerialization."""
    return function(*args, **kwargs)


def rematerialized(function: Callable[P, Y], *args: P.args, **kwargs: P.kwargs) -> Y:
    """`function(*args)`, computed again in the backward pass: only the arguments are kept. Random
    draws repeat."""
    if not torch.is_grad_enabled():
        return function(*args, **kwargs)
    again = checkpoint.checkpoint  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return cast(Y, again(function, *args, use_reentrant=False, **kwargs))
