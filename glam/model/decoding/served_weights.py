"""Experts in a fixed pool of seats, in float32 or int8: read from a checkpoint by `preadv` when a
token asks for them, in the place of the one that was asked for longest ago. Memory-mapping would
leave most of the file in memory."""

import json
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from glam.errors import UserError
from glam.model.decoding.kernel_weights import PER_EXPERT, TYPES, KernelWeights
from glam.model.glam import Glam
from glam.model.moe.moe import MixtureOfExperts
from glam.model.saved import name_today

LENGTH_BYTES = 8  # of the number before a safetensors header


@dataclass(frozen=True)
class ExpertFile:
    """Where the experts of every layer begin in a safetensors file of float32 weights."""

    path: Path
    offsets: dict[str, int]  # by today's names of the stacks

    @classmethod
    def open(cls, path: Path) -> "ExpertFile":
        """Raises UserError for a file that is cut short or has other types."""
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        begin, size = LENGTH_BYTES + length, path.stat().st_size
        stacks = {name_today(n): about for n, about in header.items() if ".experts." in n}
        if any(begin + about["data_offsets"][1] > size for about in stacks.values()):
            raise UserError(f"{path} is cut short; bring it back")
        if any(about["dtype"] != "F32" for about in stacks.values()):
            raise UserError(f"{path}: its experts are not float32; leave task.memory_mb out")
        return cls(path, {n: begin + about["data_offsets"][0] for n, about in stacks.items()})


class ServedWeights(KernelWeights):
    """The weights of a model whose experts may be on the meta device: they are read from `file`
    into at most `pool_bytes` of memory. In int8 each column of a matrix has a scale, its largest
    weight over 127.

    Raises UserError for a pool that holds no expert.
    """

    def __init__(
        self, model: Glam, file: ExpertFile, *, int8: bool = False, pool_bytes: int | None = None
    ) -> None:
        config = model.config
        self.file, self.int8 = file, int8
        self.M, self.H = config.d_model, config.d_ff
        numbers, scales = 2 * self.M * self.H, self.M + self.H
        used = numbers + 4 * scales if int8 else 4 * numbers
        self.seat_bytes = -(-used // 4) * 4
        every = config.num_moe_layers * config.num_experts
        seats = every if pool_bytes is None else min(every, pool_bytes // self.seat_bytes)
        if seats < 1:
            raise UserError(
                f"task.memory_mb={(pool_bytes or 0) / 1e6:g} holds no expert, each of which takes "
                f"{self.seat_bytes / 1e6:.3g} MB; give that much or more"
            )
        self.pool = torch.empty(seats, self.seat_bytes, dtype=torch.uint8)
        self.read_into = torch.empty(self.M * self.H) if int8 else None
        self.seats: OrderedDict[tuple[int, int], int] = OrderedDict()  # the longest unused first
        self.hits = self.misses = 0
        self._descriptor = os.open(file.path, os.O_RDONLY)
        super().__init__(model)
        self.types = self.types[0], TYPES[torch.int8 if int8 else torch.float32]

    def close(self) -> None:
        """Closes the file: no expert is read after that."""
        os.close(self._descriptor)

    @property
    def loads_at(self) -> Sequence[int]:
        layers = range(self.model.config.num_layers)
        return [n for n in layers if isinstance(self.model.layers[n].ffn, MixtureOfExperts)]

    def groups(self, layer: int, wanted: Sequence[int]) -> Iterator[None]:
        for start in range(0, len(wanted), len(self.pool)):
            self.experts[layer].zero_()
            group = wanted[start : start + len(self.pool)]
            for expert in group:  # so that none of the group makes room for another
                if (layer, expert) in self.seats:
                    self.seats.move_to_end((layer, expert))
            for expert in group:
                seat = self._seat_of(layer, expert)
                self.experts[layer, expert] = torch.tensor(self._addresses_in(seat))
            yield

    def _of_mixture(self, layer: int, mixture: MixtureOfExperts) -> list[list[int]]:
        return [[0] * PER_EXPERT] * self.model.config.num_experts  # none is there yet

    def _seat_of(self, layer: int, expert: int) -> int:
        """The seat of an expert, which is read where it has none."""
        if (layer, expert) in self.seats:
            self.hits += 1
            self.seats.move_to_end((layer, expert))
            return self.seats[layer, expert]
        self.misses += 1
        if len(self.seats) < len(self.pool):
            seat = len(self.seats)
        else:
            _, seat = self.seats.popitem(last=False)
        self._read(layer, expert, self.pool[seat])
        self.seats[layer, expert] = seat
        return seat

    def _read(self, layer: int, expert: int, seat: Tensor) -> None:
        size, (w_in, w_out, scale_in, scale_out) = self.M * self.H, self._parts(seat)
        for name, part, scale, shape in (
            ("w_in_EMH", w_in, scale_in, (self.M, self.H)),
            ("w_out_EHM", w_out, scale_out, (self.H, self.M)),
        ):
            offset = self.file.offsets[f"layers.{layer}.ffn.experts.{name}"] + 4 * size * expert
            target = part if self.read_into is None else self.read_into
            self._fill(target, offset)
            if self.read_into is not None:
                quantize(self.read_into.view(shape), part.view(shape), scale)

    def _fill(self, target: Tensor, offset: int) -> None:
        view, done = memoryview(target.view(torch.uint8).numpy()), 0  # pyright: ignore
        while done < len(view):
            got = os.preadv(self._descriptor, [view[done:]], offset + done)
            if got == 0:
                raise UserError(f"{self.file.path} is cut short; bring it back")
            done += got

    def _parts(self, seat: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both matrices of a seat, and in int8 the scales of their columns."""
        size, empty = self.M * self.H, seat[:0].view(torch.float32)
        if not self.int8:
            both = seat.view(torch.float32)
            return both[:size], both[size:], empty, empty
        of_scales = 4 * (self.M + self.H)  # in front, where floats lie on whole addresses
        scales = seat[:of_scales].view(torch.float32)
        both = seat[of_scales:].view(torch.int8)
        return both[:size], both[size : 2 * size], scales[: self.H], scales[self.H :]

    def _addresses_in(self, seat: int) -> list[int]:
        w_in, w_out, *scales = self._parts(self.pool[seat])
        found = [w_in.data_ptr(), w_out.data_ptr()]
        return found + ([scale.data_ptr() for scale in scales] if self.int8 else [0, 0])


def quantize(weights: Tensor, rounded: Tensor, scales: Tensor) -> None:
    """Writes `weights` [rows, columns] to `rounded` in int8 and the scale of each column to
    `scales`: weights are about `rounded * scales`."""
    torch.amax(weights.abs(), 0, out=scales)
    scales.div_(127)
    divisor = torch.where(scales > 0, scales, 1.0)
    rounded.copy_((weights / divisor).round_())
