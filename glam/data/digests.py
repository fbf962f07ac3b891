"""What files contain, by hash, remembered between processes: a corpus may be terabytes, and is
hashed once."""

import contextlib
import os
import sqlite3
import time
from contextlib import closing
from functools import cache
from pathlib import Path

from glam.data.hashing import file_digest

_FILE = ".digests.sqlite"
_FRESH = 2_000_000_000  # [ns] a file so new may change again under the same time stamp
_MOST = 20_000  # held before they are written
_TABLE = """
CREATE TABLE IF NOT EXISTS digests
(path BLOB PRIMARY KEY, size INTEGER, time INTEGER, inode INTEGER, digest TEXT) WITHOUT ROWID
"""
_QUERY = "SELECT digest FROM digests WHERE path=? AND size=? AND time=? AND inode=?"

_Stamp = tuple[bytes, int, int, int]  # path, bytes, time of change, inode


class Digests:
    """Hashes of files, each computed once for as long as the file keeps its size, time stamp and
    inode. They are remembered in the folder `root` where there is one that can be written."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._found: dict[_Stamp, str] = {}
        self._base: sqlite3.Connection | None = None

    def __reduce__(self) -> tuple[type["Digests"], tuple[Path | None]]:
        return Digests, (self._root,)

    def of(self, path: Path, *, sampled: bool = False) -> tuple[int, str]:
        """Bytes and hash of a file, as `file_digest` has it: a file is asked for in one way. Raises
        OSError where it cannot be read."""
        found = path.stat()
        stamp = (os.fsencode(path), found.st_size, found.st_mtime_ns, found.st_ino)
        if time.time_ns() - found.st_mtime_ns < _FRESH:
            return found.st_size, file_digest(path, sampled)
        if (known := self._found.get(stamp) or self._stored(stamp)) is None:
            known = self._found[stamp] = file_digest(path, sampled)
            if len(self._found) >= _MOST:
                self.save()
        return found.st_size, known

    def save(self) -> None:
        """Remember for other processes what was hashed. Where that fails it is hashed again."""
        if not self._found or self._root is None:
            return
        path = self._root / _FILE
        with contextlib.suppress(sqlite3.Error), closing(_connection(path, "rwc")) as base:
            base.execute(_TABLE)
            rows = [(*stamp, digest) for stamp, digest in self._found.items()]
            base.executemany("REPLACE INTO digests VALUES (?, ?, ?, ?, ?)", rows)
            base.commit()
            self._found.clear()

    def _stored(self, stamp: _Stamp) -> str | None:
        try:
            if self._base is None:
                if self._root is None or not (self._root / _FILE).is_file():
                    return None
                self._base = _connection(self._root / _FILE, "ro")
            row = self._base.execute(_QUERY, stamp).fetchone()
        except sqlite3.Error:  # damaged, locked for too long, or made by another version
            return None
        return row and str(row[0])


@cache
def digests_in(root: Path | None) -> Digests:
    """The hashes remembered in a folder; in this process alone where it is None."""
    return Digests(root)


def _connection(path: Path, mode: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(address, uri=True, timeout=30, check_same_thread=False)
