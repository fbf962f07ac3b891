"""Stages cached by content: a folder is named after all that determines what lies in it.

A stage is built in a folder beside its place and renamed when whole, under a lock, so that jobs
that start together prepare once and a killed job leaves nothing that looks finished. A manifest
of sizes and hashes tells a damaged folder, which is rebuilt.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from glam.data.digests import Digests, digests_in
from glam.data.hashing import digest, file_digest
from glam.errors import NO_SPACE, UserError
from glam.log import log
from glam.units import byte_size

_MANIFEST = "manifest.json"


class Cache:
    """Stages under one root. `needs` is what a whole preparation may write, in bytes."""

    def __init__(self, root: Path, needs: int) -> None:
        self.root, self.needs = root, needs
        self._digests = digests_in(root)

    def folder(self, name: str, inputs: dict[str, Any]) -> Path:
        """Where a stage lies, or will."""
        return self.root / f"{name}-{digest(inputs)}"

    @staticmethod
    def key(inputs: Any) -> str:
        """Hash of what determines a stage, or several."""
        return digest(inputs)

    def holds(self, name: str, inputs: dict[str, Any]) -> bool:
        """Whether a stage is there, intact."""
        return _damage(self.folder(name, inputs), self._digests) is None

    def stage(self, name: str, inputs: dict[str, Any], build: Callable[[Path], None]) -> Path:
        """The folder of stage `name` for `inputs`; `build` fills it unless it is there, intact."""
        folder = self.folder(name, inputs)
        if _damage(folder, self._digests) is None:
            return folder
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with _locked(self.root / f".{folder.name}.lock", name):
                self._make(folder, build)
        except OSError as error:
            raise _refusal(self.root, error) from error
        return folder

    def _make(self, folder: Path, build: Callable[[Path], None]) -> None:
        damage = _damage(folder, self._digests)
        if damage is None:  # another job built it while we waited
            return
        if folder.exists():
            log.warning(f"cache: {folder.name} is damaged ({damage}): rebuilt")
        if folder.is_symlink():  # which rmtree leaves alone
            folder.unlink()
        for old in (folder, *self.root.glob(f"{folder.name}.part-*")):
            shutil.rmtree(old, ignore_errors=True)
        self.check_space(self.needs)
        part = self.root / f"{folder.name}.part-{os.getpid()}"
        part.mkdir()
        try:
            build(part)
            _write_manifest(part)
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def check_space(self, needs: int) -> None:
        """Raises UserError where the disk has less than so many bytes free."""
        there = next(path for path in (self.root, *self.root.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        if free < needs:
            raise UserError(
                f"cache_dir={self.root} has {byte_size(free)} free and preparing the text may "
                f"need {byte_size(needs)}; free some space or set cache_dir=<another disk>"
            )


def manifest_digest(folder: Path) -> str:
    """Hash of the content of a finished stage."""
    return digest(json.loads((folder / _MANIFEST).read_text()))


def _write_manifest(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, file_digest(path, sampled=True)]
        for path in files
    }
    (folder / _MANIFEST).write_text(json.dumps(entries, indent=1))


def _damage(folder: Path, digests: Digests) -> str | None:
    """Why a stage's folder cannot be used, in a few words; None where it is intact. Raises
    UserError for what is no folder and for what cannot be read: neither is ours to remove."""
    try:
        if folder.is_dir() or not os.path.lexists(folder):
            return _unlike_manifest(folder, digests)
    except OSError as error:  # which says nothing of what is in it
        raise UserError(
            f"cache_dir={folder.parent}: {folder.name} cannot be read ({error.strerror}); make it "
            f"readable, or name another folder with cache_dir=..."
        ) from None
    raise UserError(
        f"cache_dir={folder.parent}: {folder.name} is a file or a broken link where a folder "
        f"belongs; remove it"
    )


def _unlike_manifest(folder: Path, digests: Digests) -> str | None:
    """What of a stage is not as its manifest says. Raises OSError for what cannot be read."""
    manifest = folder / _MANIFEST
    if manifest.exists() and not manifest.is_file():
        return f"{_MANIFEST} is no file"
    try:
        entries = json.loads(manifest.read_text())
        if not entries:
            return "its manifest is empty"
        for name, (size, content) in entries.items():
            path = folder / name
            if (found := path.stat().st_size) != size:
                return f"{name} has {found} bytes, not {size}"
            if digests.of(path, sampled=True)[1] != content:
                return f"{name} has changed"
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        return f"{Path(error.filename or folder).name} is missing"
    except (ValueError, TypeError, AttributeError):
        return "its manifest is unreadable"
    return None


@contextmanager
def _locked(path: Path, stage: str) -> Generator[None]:
    """Holds the lock of a stage; logs one line where another job has it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        log.info(f"waiting for another job that makes {stage}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _refusal(root: Path, error: OSError) -> Exception:
    """A UserError for a disk that is full or cannot be written; else the error itself."""
    # numpy tells a full disk without its number.
    if error.errno in NO_SPACE or " requested and " in str(error):
        return UserError(f"cache_dir={root}: no space left; free some or set cache_dir=<a disk>")
    here = str(error.filename or "").startswith(str(root))
    closed = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
    if here and error.errno in closed:
        return UserError(f"cache_dir={root} cannot be written ({error.strerror}); set another")
    return error
