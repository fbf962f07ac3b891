"""A million paths in little memory."""

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast, overload


class PathList(Sequence[Path]):
    """Paths in their order, in about the bytes of their names: a list of a million `Path` takes
    half a gigabyte."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        numbers: dict[str, int] = {}  # of folders
        self._folder = array("I")
        self._ends = array("Q", [0])
        names = bytearray()
        for path in paths:
            folder, _, name = path.rpartition(os.sep)
            self._folder.append(numbers.setdefault(folder, len(numbers)))
            names += os.fsencode(name)
            self._ends.append(len(names))
        self._names = bytes(names)
        self._folders = list(numbers)

    def __len__(self) -> int:
        return len(self._folder)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> "PathList": ...
    def __getitem__(self, index: int | slice) -> "Path | PathList":
        if isinstance(index, slice):
            return PathList(self._string(i) for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return Path(self._string(index % len(self)))

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self.strings())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(cast(Sequence[object], other))

    def strings(self) -> Iterator[str]:
        """The paths as they are typed."""
        return map(self._string, range(len(self)))

    def _string(self, index: int) -> str:
        name = self._names[self._ends[index] : self._ends[index + 1]]
        return f"{self._folders[self._folder[index]]}{os.sep}{os.fsdecode(name)}"


def strings(paths: Sequence[Path]) -> Iterator[str]:
    """The same paths as strings."""
    return paths.strings() if isinstance(paths, PathList) else map(str, paths)
