"""Batches that are on the GPU when their step begins."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from glam.training.module import StepBatch


class OnDevice:
    """The batches on `device`, each copied while the step before it computes: from pinned memory,
    which a GPU reads by itself, on a stream beside that of the computation. For a CPU they are
    those that came."""

    def __init__(self, batches: Iterable[StepBatch], device: str) -> None:
        self._batches, self._copies = batches, Copies(device) if device == "cuda" else None

    def __iter__(self) -> Iterator[StepBatch]:
        if self._copies is None:
            yield from self._batches
            return
        ahead: StepBatch | None = None
        for batch in self._batches:
            started = self._copies.start(batch)
            if ahead is not None:
                yield self._copies.finish(ahead)
            ahead = started
        if ahead is not None:
            yield self._copies.finish(ahead)


class Copies:
    """Copies to a GPU on a stream of their own."""

    def __init__(self, device: str) -> None:
        self._device: Any = torch.device(device)
        self._stream: Any = torch.cuda.Stream()

    def start(self, batch: StepBatch) -> StepBatch:
        """The batch as it will be on the device. Returns at once."""
        with torch.cuda.stream(self._stream):
            return StepBatch(
                *(part.pin_memory().to(self._device, non_blocking=True) for part in batch)
            )

    def finish(self, batch: StepBatch) -> StepBatch:
        """Makes the computation wait for the copies so far, and their memory for the
        computation."""
        computing: Any = torch.cuda.current_stream()
        computing.wait_stream(self._stream)
        for part in batch:
            part.record_stream(computing)
        return batch
