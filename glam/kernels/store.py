"""Where the compiled library is kept: nobody else can have written it, and it is whole.

Loading a library runs it, and one that is damaged ends the process by a signal. So the folder, and
every folder above it, is this user's or root's and no one else's to write to, and the file ends in
a digest of what stands before it, which the loader does not mind.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

DIGEST = hashlib.sha256().digest_size  # bytes at the end of the file
OTHERS = stat.S_IWGRP | stat.S_IWOTH


def folders() -> Iterator[Path]:
    """Those that exist by now and are safe, the best first: the user's cache, then one of the user
    among the temporary files. Some may be read only."""
    for folder in _candidates():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid == os.geteuid() and folder.stat().st_mode & OTHERS:
                folder.chmod(0o700)  # made by an earlier version, under a wide umask
        except OSError:
            pass  # read only, or in the way of a file
        if is_safe(folder):
            yield folder


def _candidates() -> Iterator[Path]:
    """Raises FileNotFoundError where there is no place for temporary files either."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        yield Path(home).absolute() / "glam"
    except RuntimeError:  # the user has no home
        pass
    yield Path(tempfile.gettempdir()).absolute() / f"glam-kernels-{os.geteuid()}"


def is_safe(folder: Path) -> bool:
    """Whether only this user and root can put files there, or another folder in its place."""
    try:
        found = folder.resolve(strict=True)
        if not found.is_dir() or not _is_ours(found.stat(), sticky=False):
            return False
        return all(_is_ours(above.stat(), sticky=True) for above in found.parents)
    except (OSError, RuntimeError):  # a loop of links
        return False


def _is_ours(status: os.stat_result, *, sticky: bool) -> bool:
    """`sticky`: others may add files, as to /tmp, but not replace ours."""
    if status.st_uid not in (0, os.geteuid()):
        return False
    return not status.st_mode & OTHERS or (sticky and bool(status.st_mode & stat.S_ISVTX))


def is_whole(file: Path) -> bool:
    """Whether the file in a safe folder is ours and as it was written."""
    try:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode) or not _is_ours(status, sticky=False):
            return False
        content = file.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]


def keep(built: Path, file: Path) -> None:
    """Move the library `built`, which lies in a folder beside `file`, to its place, whole or not
    at all."""
    with built.open("ab") as library:
        library.write(hashlib.sha256(built.read_bytes()).digest())
        library.flush()
        os.fsync(library.fileno())
    built.chmod(0o700)
    built.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
