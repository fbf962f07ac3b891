"""Kernels as operators of torch (`torch.ops.glam.<name>`), which `torch.compile` takes into graphs.

An operator changes the tensors that its C function writes and returns nothing. Outside of a graph
`call` goes to C by itself, since torch's dispatcher would add a third to the time of a call.
"""

from collections.abc import Callable
from typing import Any

import torch

from glam.kernels.contracts import SIGNATURES, WRITTEN

TYPES = {"n": "SymInt", "f": "float", "i": "int"}
Run = Callable[..., int]


def schema(name: str) -> str:
    """Of the operator, as torch writes it: `gelu(Tensor a0, Tensor(a1!) a1, SymInt a2) -> ()`."""
    parameters = (
        f"{TYPES.get(letter) or _tensor(name, place, letter)} a{place}"
        for place, letter in enumerate(SIGNATURES[name])
    )
    return f"{name}({', '.join(parameters)}) -> ()"


def _tensor(name: str, place: int, letter: str) -> str:
    alias = f"(a{place}!)" if place in WRITTEN[name] else ""
    return f"Tensor{alias}{'?' if letter.isupper() else ''}"


def register(run: Run) -> "torch.library.Library":
    """Operators of all kernels, each of which calls `run(name, *arguments)`; they are there as long
    as what is returned."""
    library: Any = torch.library.Library("glam", "DEF")
    for name in WRITTEN:
        library.define(schema(name))
        library.impl(name, _raising(name, run), "CPU")
        library._register_fake(name, _nothing)
    return library


def _raising(name: str, run: Run) -> Callable[..., None]:
    def compute(*arguments: Any) -> None:
        if returned := run(name, *arguments):
            raise RuntimeError(f"glam::{name} failed with {returned}, as its C function says")

    return compute


def _nothing(*_: Any) -> None:
    """What an operator computes of tensors without numbers: its shapes are those given to it."""
