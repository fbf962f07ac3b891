"""Which files a path, a folder or a glob names, and what it leaves out.

A path that exists is meant as it stands, brackets and all; any other is a glob, whose `**` is any
number of folders. Folders and globs pass over hidden names (`.git`, `.ipynb_checkpoints`,
`._x.txt`) unless the pattern itself has them, follow links, and enter no folder twice.
"""

import errno
import os
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from glam.config import typed_path
from glam.data.path_list import PathList, strings
from glam.errors import UserError
from glam.log import log

_SEP = "\0"  # in place of a slash: paths then sort as lists of their parts do


class Finder:
    """The files of some kinds (suffixes) that the patterns of `key` name."""

    def __init__(self, key: str, kinds: Sequence[str], words: str = "") -> None:
        """`words` say in messages what the kinds are."""
        self._key, self._kinds = key, tuple(kinds)
        self._words = words or " and ".join(kinds)
        self._hidden, self._special, self._other = set[str](), set[str](), set[str]()
        self.followed_links = False

    def files(self, pattern: str) -> PathList:
        """Absolute paths, in the order of their names. Raises UserError for what cannot be
        read."""
        typed = typed_path(self._key, pattern)
        try:
            names = [str(typed)] if typed.exists() else sorted(set(self._globbed(typed)))
            single = len(names) == 1
            inside = (path for name in names for path in self._inside(name))
            return PathList(inside if single else dict.fromkeys(inside))
        except OSError as error:
            raise UserError(
                f"{self._key}: {error.filename or pattern} cannot be read ({error.strerror}); make "
                f"it readable, or leave it out"
            ) from None

    def say_left_out(self) -> None:
        """One line, where something was."""
        kinds = Counter(os.path.splitext(path)[1] or "without suffix" for path in self._other)
        common = ", ".join(sorted(kinds, key=lambda kind: (-kinds[kind], kind))[:4])
        counts = (
            (len(self._hidden), "hidden"),
            (len(self._other), f"of other kinds ({common})"),
            (len(self._special), "broken links, pipes or devices"),
        )
        if words := ", ".join(f"{count:,} {what}" for count, what in counts if count):
            _say_once(f"{self._key} leaves out: {words}; text is {self._words}")

    def _inside(self, name: str) -> Iterator[str]:
        """The file `name` itself, or every file below the folder."""
        path = os.path.abspath(name)  # links keep their own names
        if not os.path.isdir(path):
            if self._is_text(path):
                yield path
            return
        found: list[str] = []
        for folder, entries in self._folders(path):
            start = folder.replace(os.sep, _SEP) + _SEP
            found += (
                start + entry.name
                for entry in entries
                if self._is_wanted(entry.path, _leads_to(entry.is_file))
            )
        found.sort()
        for path in found:
            yield path.replace(_SEP, os.sep)

    def _folders(self, root: str) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
        """Every folder from `root` down with its files, each once: links to folders come last, so
        that a folder goes by its own name where it has one."""
        todo, entered = deque([root]), set[str]()
        while todo:
            folder = todo.popleft()
            if (target := os.path.realpath(folder)) in entered:
                continue
            entered.add(target)
            files: list[os.DirEntry[str]] = []
            for entry in self._visible(_entries(folder)):
                if not _leads_to(entry.is_dir):
                    files.append(entry)
                    self.followed_links |= entry.is_symlink()
                elif entry.is_symlink():
                    self.followed_links = True
                    todo.append(entry.path)
                else:
                    todo.appendleft(entry.path)
            yield folder, files

    def _globbed(self, pattern: Path) -> Iterator[str]:
        anchor = Path(pattern.anchor)
        return self._matching(str(anchor), pattern.relative_to(anchor).parts)

    def _matching(self, folder: str, parts: Sequence[str]) -> Iterator[str]:
        """What lies in `folder` and matches the parts of a glob."""
        if not parts or list(parts) == ["**"]:  # a folder is all that is in it
            yield folder
        elif not os.path.isdir(folder):
            return
        elif parts[0] == "**":
            for each, _ in self._folders(folder):
                yield from self._matching(each, parts[1:])
        else:
            for path in self._named(folder, parts[0]):
                yield from self._matching(path, parts[1:])

    def _named(self, folder: str, part: str) -> list[str]:
        path = os.path.join(folder, part)
        if os.path.exists(path):
            return [path]
        found = [entry for entry in _entries(folder) if fnmatchcase(entry.name, part)]
        self.followed_links |= any(entry.is_symlink() for entry in found)
        return [e.path for e in (found if part.startswith(".") else self._visible(found))]

    def _visible(self, entries: Iterable[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
        for entry in entries:
            if entry.name.startswith("."):
                self._hidden.add(entry.path)
            else:
                yield entry

    def _is_text(self, path: str) -> bool:
        is_file = os.path.exists(path) and stat.S_ISREG(os.stat(path).st_mode)
        return self._is_wanted(path, is_file)

    def _is_wanted(self, path: str, is_file: bool) -> bool:
        if not path.endswith(self._kinds):
            self._other.add(path)
        elif not is_file:
            self._special.add(path)
        return path.endswith(self._kinds) and is_file


def _leads_to(asked: Callable[[], bool]) -> bool:
    """Whether an entry is what is asked for; a link that leads to itself is nothing."""
    try:
        return asked()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return list(found)


def each_once(paths: Sequence[Path]) -> PathList:
    """The paths without a second name for a file: its own, where links give it others."""
    chosen: dict[str, str] = {}
    for path, target in _targets(paths):
        if target not in chosen or path == target:
            chosen[target] = path
    return PathList(chosen.values())


def without(paths: Sequence[Path], others: Sequence[Path]) -> PathList:
    """Those of the paths that are none of the others' files, by whatever name."""
    if not others:
        return PathList(strings(paths))
    taken = {target for _, target in _targets(others)}
    return PathList(path for path, target in _targets(paths) if target not in taken)


def _targets(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Each path, and where it leads to, links followed. A folder is looked up once."""
    real = cache(os.path.realpath)
    for path in strings(paths):
        folder, _, name = path.rpartition(os.sep)
        yield (
            path,
            real(path) if os.path.islink(path) else os.path.join(real(folder or os.sep), name),
        )


@cache
def _say_once(line: str) -> None:
    log.info(line)
