"""Memory of large gradients, kept from step to step.

The C library maps a block of 32 MB or more anew each time and gives it back when it is freed, so
that every step faults a large stack of experts' gradients in again, page by page: up to a quarter
of a step's time. While `keeping`, a block that its last tensor lets go of waits for the next
gradient of its size. It is for gradients that the backward pass makes: those that it replaces were
dropped after the forward pass (as Lightning does), so that no more is held at once than without.
The loss makes its gradients in the forward pass, while the last ones are there, and has no part in
this.
"""

import ctypes
import mmap
import weakref
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

POOLED_FROM = 2**25  # bytes: smaller blocks are the C library's, which keeps them too

_free: dict[int, list[mmap.mmap]] = {}  # by size
_keepers = 0


@contextmanager
def pooling() -> Generator[None]:
    """For a training loop."""
    global _keepers
    _keepers += 1
    try:
        yield
    finally:
        _keepers -= 1
        if not _keepers:
            _free.clear()


def empty_like_pooled(x: Tensor) -> Tensor:
    """Uninitialized and contiguous, `x`'s shape, type and device."""
    size = x.numel() * x.element_size()
    plain = x.is_cpu and type(x) in (Tensor, nn.Parameter)
    if not _keepers or size < POOLED_FROM or not plain:
        return torch.empty_like(x, memory_format=torch.contiguous_format)
    block = _taken(size)
    lent = (ctypes.c_char * size).from_buffer(block)  # goes when the last tensor that sees it does
    weakref.finalize(lent, _give_back, size, block).atexit = False
    return torch.frombuffer(lent, dtype=x.dtype).view(x.shape)


def _taken(size: int) -> mmap.mmap:
    try:
        return _free[size].pop()
    except (KeyError, IndexError):
        _free.clear()  # who asks for other sizes has no use for these
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _give_back(size: int, block: mmap.mmap) -> None:
    if _keepers:
        _free.setdefault(size, []).append(block)
