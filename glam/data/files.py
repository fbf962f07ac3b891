"""Which files a path, a folder or a glob names, and what it leaves out.

A path that exists is meant as it stands, brackets and all; any other is a glob, whose `**` is any
number of folders. Folders and globs pass over hidden names (`.git`, `.ipynb_checkpoints`,
`._x.txt`) unless the pattern itself has them, follow links, and enter no folder twice.
"""

import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from glam.config import typed_path
from glam.errors import UserError
from glam.log import log


class Finder:
    """The files of some kinds (suffixes) that the patterns of `key` name."""

    def __init__(self, key: str, kinds: Sequence[str]) -> None:
        self._key, self._kinds = key, kinds
        self._hidden: set[Path] = set()
        self._special: set[Path] = set()
        self._other: set[Path] = set()

    def files(self, pattern: str) -> list[Path]:
        """Absolute paths, in the order of their names. Raises UserError for what cannot be
        read."""
        typed = typed_path(self._key, pattern)
        try:
            names = [typed] if typed.exists() else sorted(self._globbed(typed), key=str)
            found = {path: None for name in names for path in self._inside(name)}
            return [path for path in found if self._is_text(path)]
        except OSError as error:
            raise UserError(
                f"{self._key}: {error.filename or pattern} cannot be read ({error.strerror}); make "
                f"it readable, or leave it out"
            ) from None

    def say_left_out(self) -> None:
        """One line, where something was."""
        kinds = Counter(path.suffix or "without suffix" for path in self._other)
        common = ", ".join(sorted(kinds, key=lambda kind: (-kinds[kind], kind))[:4])
        counts = (
            (len(self._hidden), "hidden"),
            (len(self._other), f"of other kinds ({common})"),
            (len(self._special), "broken links, pipes or devices"),
        )
        if words := ", ".join(f"{count:,} {what}" for count, what in counts if count):
            _say_once(f"{self._key} leaves out: {words}; text is {' and '.join(self._kinds)}")

    def _inside(self, name: Path) -> Iterator[Path]:
        """The file `name` itself, or every file below the folder."""
        path = Path(os.path.abspath(name))  # noqa: PTH100 - links keep their own names
        if path.is_dir():
            yield from sorted(file for _, files in self._folders(path) for file in files)
        else:
            yield path

    def _folders(self, root: Path) -> Iterator[tuple[Path, list[Path]]]:
        """Every folder from `root` down with its files, each once: links to folders come last, so
        that a folder goes by its own name where it has one."""
        todo, entered = deque([root]), set[str]()
        while todo:
            folder = todo.popleft()
            if (target := os.path.realpath(folder)) in entered:
                continue
            entered.add(target)
            entries = self._visible(folder.iterdir())
            folders = [path for path in entries if path.is_dir()]
            todo.extendleft(path for path in folders if not path.is_symlink())
            todo.extend(path for path in folders if path.is_symlink())
            yield folder, [path for path in entries if not path.is_dir()]

    def _globbed(self, pattern: Path) -> Iterator[Path]:
        anchor = Path(pattern.anchor)
        return self._matching(anchor, pattern.relative_to(anchor).parts)

    def _matching(self, folder: Path, parts: Sequence[str]) -> Iterator[Path]:
        """What lies in `folder` and matches the parts of a glob."""
        if not parts or list(parts) == ["**"]:  # a folder is all that is in it
            yield folder
        elif not folder.is_dir():
            return
        elif parts[0] == "**":
            for each, _ in self._folders(folder):
                yield from self._matching(each, parts[1:])
        else:
            for path in self._named(folder, parts[0]):
                yield from self._matching(path, parts[1:])

    def _named(self, folder: Path, part: str) -> list[Path]:
        if (folder / part).exists():
            return [folder / part]
        found = [path for path in folder.iterdir() if fnmatchcase(path.name, part)]
        return found if part.startswith(".") else self._visible(found)

    def _visible(self, paths: Iterable[Path]) -> list[Path]:
        found = list(paths)
        self._hidden |= (hidden := {path for path in found if path.name.startswith(".")})
        return [path for path in found if path not in hidden]

    def _is_text(self, path: Path) -> bool:
        if path.suffix not in self._kinds:
            self._other.add(path)
        elif not path.exists() or not stat.S_ISREG(path.stat().st_mode):
            self._special.add(path)
        else:
            return True
        return False


def each_once(paths: Sequence[Path]) -> list[Path]:
    """The paths without a second name for a file: its own, where links give it others."""
    chosen: dict[str, Path] = {}
    for path, target in zip(paths, _targets(paths), strict=True):
        if target not in chosen or str(path) == target:
            chosen[target] = path
    return list(chosen.values())


def without(paths: Sequence[Path], others: Sequence[Path]) -> list[Path]:
    """Those of the paths that are none of the others' files, by whatever name."""
    taken = set(_targets(others))
    return [
        path for path, target in zip(paths, _targets(paths), strict=True) if target not in taken
    ]


def _targets(paths: Sequence[Path]) -> list[str]:
    """Where each path leads to, links followed. A folder is looked up once."""
    real = cache(os.path.realpath)
    return [
        real(path) if path.is_symlink() else os.path.join(real(path.parent), path.name)  # noqa: PTH118
        for path in paths
    ]


@cache
def _say_once(line: str) -> None:
    log.info(line)
