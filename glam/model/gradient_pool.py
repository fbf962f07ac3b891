"""Pool of memory for large gradients, reused from step to step.

The C library maps a block of 32 MB or more anew for each allocation and unmaps it when it is freed:
every step then faults a large stack of expert gradients in again, page by page, which takes up to a
quarter of the step's time. While `pooling`, a block waits for the next gradient of its size when
its last tensor is gone. The pool is for gradients made in the backward pass: the ones they replace
are dropped after the forward pass (as Lightning does), so that no more memory is held at once. The
output loss makes its gradients in the forward pass, before the old ones are dropped, and does not
use the pool.
"""

import ctypes
import mmap
import weakref
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

POOLED_FROM = 2**25  # bytes: smaller blocks are reused by the C library itself

_free: dict[int, list[mmap.mmap]] = {}  # blocks by size in bytes
_poolers = 0


@contextmanager
def pooling() -> Generator[None]:
    """Reuse the memory of large gradients until the end of the block; nests."""
    global _poolers
    _poolers += 1
    try:
        yield
    finally:
        _poolers -= 1
        if not _poolers:
            _free.clear()


def empty_like_pooled(x: Tensor) -> Tensor:
    """An uninitialized contiguous tensor of the shape, type and device of `x`; from the pool where
    it is large and on the CPU."""
    size = x.numel() * x.element_size()
    plain = x.is_cpu and type(x) in (Tensor, nn.Parameter)
    if not _poolers or size < POOLED_FROM or not plain:
        return torch.empty_like(x, memory_format=torch.contiguous_format)
    block = _take(size)
    lent = (ctypes.c_char * size).from_buffer(block)  # freed with the last tensor on it
    weakref.finalize(lent, _return, size, block).atexit = False
    return torch.frombuffer(lent, dtype=x.dtype).view(x.shape)


def _take(size: int) -> mmap.mmap:
    try:
        return _free[size].pop()
    except (KeyError, IndexError):
        _free.clear()  # another model: blocks of its sizes only
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _return(size: int, block: mmap.mmap) -> None:
    if _poolers:
        _free.setdefault(size, []).append(block)
