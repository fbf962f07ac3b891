"""Tensors of a checkpoint, each read when it is asked for, whole or in part. So a process reads its
own shards only, whatever number of processes wrote them."""

import stat
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor

from glam.errors import UserError, first_line
from glam.runs.manifest import Split

SAVE_ERRORS = (OSError, SafetensorError)  # what a full disk raises


class SafetensorsSource:
    """A safetensors file. It is opened for each tensor, since what is read of a file that stays
    open stays in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        with self._open() as file:
            return list(file.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        with self._open() as file:
            return tuple(file.get_slice(name).get_shape())

    def part(self, name: str, index: tuple[slice, ...]) -> Tensor:
        """A view of the file."""
        with self._open() as file:
            return file.get_slice(name)[index] if index else file.get_tensor(name)

    def _open(self) -> Any:
        return safe_open(self.path, framework="pt")


class StateSource:
    """Optimizer state in a `state-*.pt` of format 1."""

    def __init__(self, path: Path, tensors: dict[str, Tensor]) -> None:
        self.path, self._tensors = path, tensors

    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def part(self, name: str, index: tuple[slice, ...]) -> Tensor:
        return self._tensors[name][index]


Source = SafetensorsSource | StateSource


class SavedTensors(Mapping[str, Tensor]):
    """The tensors of files that processes wrote. `splits` tells along which dimension a tensor is
    split among them, in equal chunks as `torch.chunk` makes them; the others are whole in the first
    file. Raises UserError where a file does not hold what its checkpoint says."""

    def __init__(
        self,
        sources: Sequence[Source],
        splits: Mapping[str, Split],
        renamed: Callable[[str], str] = str,
    ) -> None:
        self._sources, self._splits = sources, splits
        with _refusing(sources[0].path):
            self._saved = {renamed(name): name for name in sources[0].names()}

    @property
    def where(self) -> str:
        """What is read, for a refusal."""
        return f"checkpoint {self._sources[0].path.parent}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._saved)

    def __len__(self) -> int:
        return len(self._saved)

    def __getitem__(self, name: str) -> Tensor:
        return self.read(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of the whole tensor."""
        saved = self._saved[name]
        with _refusing(self._sources[0].path):
            shape = list(self._sources[0].shape(saved))
            if (dim := self._dim(saved)) is not None:
                shape[dim] = sum(self._lengths(saved))
        return tuple(shape)

    def read(self, name: str, dim: int = 0, start: int = 0, stop: int | None = None) -> Tensor:
        """A copy of the tensor, or of its part from `start` to `stop` along `dim`."""
        saved, shape = self._saved[name], self.shape(name)
        if stop is None:
            stop = shape[dim] if shape else 0
        pieces = list[Tensor]()
        for source, part in self._overlapping(saved, dim, start, stop):
            index = [slice(None)] * len(shape)
            if index:
                index[dim] = part
            with _refusing(source.path):
                pieces.append(source.part(saved, tuple(index)))
        along = self._dim(saved)
        return pieces[0].clone() if along is None or len(pieces) == 1 else torch.cat(pieces, along)

    def _overlapping(
        self, saved: str, dim: int, start: int, stop: int
    ) -> Iterator[tuple[Source, slice]]:
        """The files that hold something of a part, and what of their own that is, along `dim`."""
        along = self._dim(saved)
        if along != dim or start == stop:
            elsewhere = along is not None and along != dim
            here = self._sources if elsewhere else self._sources[:1]
            yield from ((source, slice(start, stop)) for source in here)
            return
        end = 0
        for source, length in zip(self._sources, self._lengths(saved), strict=True):
            begin, end = end, end + length
            if start < end and begin < stop:
                yield source, slice(max(start - begin, 0), min(stop - begin, length))

    def _dim(self, saved: str) -> int | None:
        split = self._splits.get(saved)
        return split[0] if isinstance(split, tuple) else split

    def _lengths(self, saved: str) -> list[int]:
        """How much of a split tensor each file has, along its split dimension."""
        split = self._splits[saved]
        if isinstance(split, int):
            with _refusing(self._sources[0].path):
                return [source.shape(saved)[split] for source in self._sources]
        return [
            len(chunk(split[1], rank, len(self._sources))) for rank in range(len(self._sources))
        ]


def save_tensors(tensors: Mapping[str, Tensor], file: Path, **metadata: str) -> None:
    """Save tensors of the CPU. The file's mode follows the umask, as that of every other file;
    safetensors makes it readable for its owner alone. Raises one of SAVE_ERRORS."""
    file.touch()
    mode = stat.S_IMODE(file.stat().st_mode)
    whole = {name: value.contiguous() for name, value in tensors.items()}
    safetensors.save_file(whole, file, metadata or None)  # pyright: ignore[reportUnknownMemberType]
    file.chmod(mode)


def chunk(size: int, rank: int, ranks: int) -> range:
    """What the process `rank` has of a dimension that is split among `ranks`."""
    each = -(-size // ranks)
    return range(min(rank * each, size), min((rank + 1) * each, size))


def check_shape(saved: SavedTensors, name: str, tensor: Tensor) -> None:
    """Raises UserError where the tensor that is saved under `name` is not of the shape of `tensor`,
    or absent."""
    if name not in saved:
        raise unfit(saved.where, f"no {name}")
    if saved.shape(name) != tuple(tensor.shape):
        raise unfit(saved.where, f"{name} {list(saved.shape(name))}, not {list(tensor.shape)}")


@contextmanager
def _refusing(file: Path) -> Generator[None]:
    """Refuse a file in one line. Its checksum has matched: it was not damaged since."""
    where = f"checkpoint {file.parent}: {file.name}"
    try:
        yield
    except OSError as error:
        raise UserError(f"{where} cannot be read ({first_line(error)})") from None
    except (SafetensorError, ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        raise unfit(where, first_line(error)) from None


def unfit(where: str, reason: str) -> UserError:
    """The refusal of a checkpoint whose checksums match and that holds something else."""
    return UserError(
        f"{where} holds something else than was saved ({reason}); move the checkpoint away to go "
        f"on from the one before"
    )
