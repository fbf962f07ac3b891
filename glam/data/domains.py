"""Which domain a file is of, by its name and its folder's.

    wiki.jsonl, wiki-00001-of-00100.parquet     wiki: the name, without the number of a shard
    books/a.txt, books/part-00001.csv           books: the folder, where a name tells nothing

The folder names the domain too where it holds more than 16 names of other files than `.jsonl`, and
everywhere where there would be more domains than a batch can tell apart. Where there are more
folders than that, the deepest go by the names of those that they lie in.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from glam.data.formats import domain_name, format_of, stem_of
from glam.data.path_list import strings

MOST_DOMAINS = 255  # each slot of a batch names its source in a byte
_MANY = 16  # names in a folder
# The number of a shard, and what its writer put beside it.
_SHARD = re.compile(
    r"[-_.]?\d+[-_.]of[-_.]\d+.*$"  # train-00001-of-00100, …-0123456789abcdef
    r"|^part-\d{5}-.*$"  # of Spark
    r"|(?:-\d{14})*-\d{5}$"  # of a crawl, behind its times
    r"|(?<!\d)[-_.]?(?<!\d)(?:0\d{3,}|\d{5})$"
    r"|(?:^|[-_.])(?:part|shard|chunk|file|batch)[-_.]?\d+$",
    re.IGNORECASE,
)
_SAYS_NOTHING = {"", "data", "default", "train", "training", "test", "valid", "validation", "text"}


class Domains:
    """Names the domain of each file of some groups. A domain of two groups counts twice."""

    def __init__(self, groups: Sequence[Sequence[Path]]) -> None:
        # Names of the files that name their domain, by group and folder; "" stands for the others.
        self._names: dict[tuple[int, str], set[str]] = {}
        self._many = set[str]()  # folders that name the domain of all their files
        for group, paths in enumerate(groups):
            for path in strings(paths):
                self._note(group, path)
        self._home = {folder: folder for _, folder in self._names}  # whose name stands for it
        self._coarsen()
        self._known: dict[tuple[str, str, bool], str] = {}

    def _note(self, group: int, path: str) -> None:
        folder, name = os.path.split(path)
        names = self._names.setdefault((group, folder), set())
        if len(names) <= MOST_DOMAINS:
            names.add(_file_name(name))
        if len(names) > _MANY and format_of(name) != ".jsonl":
            self._many.add(folder)

    def _coarsen(self) -> None:
        """Take domains together until there are not too many."""
        if self._are_too_many():
            self._many |= set(self._home)
        while self._are_too_many():
            depth = max(home.count(os.sep) for home in self._home.values())
            self._home = {
                folder: os.path.dirname(home) if home.count(os.sep) == depth else home
                for folder, home in self._home.items()
            }

    def _are_too_many(self) -> bool:
        found = {
            (group, self._domain(folder, name))
            for (group, folder), names in self._names.items()
            for name in (names if folder not in self._many else {""})
        }
        return len(found) > MOST_DOMAINS

    def _domain(self, folder: str, name: str, past: bool = False) -> str:
        """By the file's name, or by its folder's: of shards `past` those that say nothing, as of
        wiki/data/train-00001-of-00002.parquet."""
        if name and folder not in self._many:
            return name
        parts = [part for part in self._home[folder].split(os.sep) if part]
        telling = [part for part in parts if part.lower() not in _SAYS_NOTHING]
        return domain_name(((past and telling) or parts or [""])[-1]) or "text"

    def of(self, path: str) -> str:
        """The name of a file's domain."""
        folder, name = os.path.split(path)
        asked = folder, _file_name(name), format_of(name) != ".txt"
        if asked not in self._known:
            self._known[asked] = self._domain(*asked)
        return self._known[asked]


def _file_name(name: str) -> str:
    """What a file is called, without the number of a shard; "" where that tells no domain."""
    if format_of(name) == ".txt":
        return ""
    stem = _SHARD.sub("", stem_of(name))
    return (
        "" if stem != stem_of(name) and stem.lower() in _SAYS_NOTHING else domain_name(stem) or ""
    )
