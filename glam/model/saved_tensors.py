"""Tensors of a checkpoint, each read when it is asked for, whole or in part. So a process reads its
own shards only, whatever number of processes wrote them."""

import stat
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor

from glam.errors import UserError, first_line
from glam.runs.manifest import Grid, Split

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
    """The tensors of files that processes wrote. `splits` tells along which dimensions a tensor is
    split among them, in equal chunks as `torch.chunk` makes them; the others are whole in the first
    file. Raises UserError where a file does not hold what its checkpoint says."""

    def __init__(
        self,
        sources: Sequence[Source],
        splits: Mapping[str, Split | Grid],
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
            for axis in self._axes(saved):
                shape[axis.dim] = sum(axis.lengths)
        return tuple(shape)

    def read(self, name: str, parts: Mapping[int, range] | None = None) -> Tensor:
        """A copy of the tensor, or of its part: `parts` are the ranges to read, by dimension."""
        saved, wanted = self._saved[name], dict(parts or {})
        whole = [slice(None)] * len(self.shape(name))
        for dim, part in wanted.items():
            whole[dim] = slice(part.start, part.stop)
        axes = self._axes(saved)
        found = self._joined(saved, axes, whole, 0)
        return found if axes else found.clone()

    def _joined(self, saved: str, axes: list["_Axis"], index: list[slice], file: int) -> Tensor:
        """The part at `index` of a tensor, of its chunks along `axes` in `file` and later ones."""
        if not axes:
            with _refusing(self._sources[0].path):
                source = self._sources[file]
            with _refusing(source.path):
                return source.part(saved, tuple(index))
        axis, *others = axes
        pieces = [
            self._joined(saved, others, [*index[: axis.dim], part, *index[axis.dim + 1 :]], at)
            for at, part in axis.overlapping(index[axis.dim], file)
        ]
        return torch.cat(pieces, axis.dim)

    def _axes(self, saved: str) -> list["_Axis"]:
        """The dimensions along which a tensor is split."""
        split, files = self._splits.get(saved, []), len(self._sources)
        match split:
            case int():
                with _refusing(self._sources[0].path):
                    return [_Axis(split, [s.shape(saved)[split] for s in self._sources], 1)]
            case tuple():
                dim, size = split
                return [_Axis(dim, [len(chunk(size, n, files)) for n in range(files)], 1)]
            case _:
                return [
                    _Axis(dim, [len(chunk(size, n, chunks)) for n in range(chunks)], step)
                    for dim, size, chunks, step in split
                ]


class _Axis(NamedTuple):
    """A dimension along which a tensor is split among files."""

    dim: int
    lengths: list[int]  # of the chunks
    step: int  # files from one chunk to the next

    def overlapping(self, wanted: slice, file: int) -> Iterator[tuple[int, slice]]:
        """The files that hold something of `wanted`, and what of their own that is; an empty part
        of the first where nothing is wanted. The first chunk lies in `file`."""
        start, stop, _ = wanted.indices(sum(self.lengths))
        if start >= stop:
            yield file, slice(0, 0)
        end = 0
        for number, length in enumerate(self.lengths):
            begin, end = end, end + length
            if max(start, begin) < min(stop, end):
                part = slice(max(start - begin, 0), min(stop - begin, length))
                yield file + number * self.step, part


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
