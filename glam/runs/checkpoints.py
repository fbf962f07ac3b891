"""Which of a run's checkpoints are whole. A checkpoint is a folder `step-00001234/` with weights,
optimizer state, other state, and a manifest with the checksums of all. One that was read and does
not match is damaged, and passed over. One that cannot be read is refused: another user's, or one
on a disk that fails, may be whole.

Several processes write a file of each apiece (`model-00001-of-00004.safetensors`). They verify a
checkpoint together: each file is read by one of them.
"""

import errno
import hashlib
import os
import re
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from glam.errors import UserError
from glam.log import log
from glam.machine.processes import SINGLE, Processes
from glam.runs.manifest import (
    FORMAT,
    MANIFEST,
    DamagedCheckpointError,
    FileDigest,
    Manifest,
)

# A file is missing, or something else is in its place: known, and not for want of a right.
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO)
STEP_FOLDER = re.compile(r"step-(\d{8,})")


class Checkpoint(NamedTuple):
    """A checkpoint that matches its manifest."""

    path: Path
    manifest: Manifest


def step_folder(checkpoints: Path, step: int) -> Path:
    """The folder of the checkpoint that was saved after `step` steps."""
    return checkpoints / f"step-{step:08d}"


def newest_checkpoint(
    checkpoints: Path, processes: Processes = SINGLE, *, up_to: int | None = None
) -> Checkpoint | None:
    """The newest folder, of those up to a step, whose files match their manifest; for all
    `processes` the same. A damaged one is reported on stderr, one line, and passed over. Raises
    UserError where one cannot be read."""
    for folder in step_folders(checkpoints):
        if up_to is not None and step_of(folder) > up_to:
            continue
        try:
            return Checkpoint(folder, verify(folder, processes))
        except DamagedCheckpointError as damage:
            if processes.is_main:
                log.warning(f"checkpoint {folder.name} is damaged ({damage}); passed over")
    return None


def verify(folder: Path, processes: Processes = SINGLE) -> Manifest:
    """The manifest of an undamaged checkpoint. A collective: every process reads its share of the
    files. Raises DamagedCheckpointError, and UserError where a file cannot be read, in all
    processes."""
    manifest, damage, unreadable = None, None, 0
    try:
        manifest = read_manifest(folder)
        for name in sorted(manifest.files)[processes.rank :: processes.size]:
            _check_file(folder / name, manifest.files[name])
        if processes.is_main:
            _check_state(folder, manifest)
    except DamagedCheckpointError as error:
        damage = error
    except OSError as error:
        unreadable = error.errno or errno.EIO
    unreadable, damaged = processes.largest(unreadable, int(damage is not None))
    if unreadable:
        raise UserError(
            f"checkpoint {folder} cannot be read ({os.strerror(unreadable)}), and may be whole; "
            f"nothing was removed. Mend that, or move it away to go on from the one before"
        )
    if damaged or manifest is None:
        raise damage or DamagedCheckpointError("a file is not what was saved")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint. Raises DamagedCheckpointError, OSError where it cannot be read,
    and UserError for one of a later version."""
    with _opened(folder / MANIFEST) as file:
        manifest = Manifest.read(file.read())
    if manifest.format > FORMAT:
        raise UserError(f"checkpoint {folder} was written by a later version of glam; update glam")
    if manifest.step != step_of(folder):
        raise DamagedCheckpointError(f"its manifest says step {manifest.step}")
    return manifest


def read_state(folder: Path, name: str) -> dict[str, Any]:
    """What a state file holds: tensors, which stay in the file until they are used, and plain
    values. Raises DamagedCheckpointError, and OSError where it cannot be read."""
    import torch

    try:
        state = torch.load(folder / name, map_location="cpu", weights_only=True, mmap=True)
    except OSError:
        raise
    except Exception:  # torch's own words advise to load it unsafely
        raise DamagedCheckpointError(f"{name} holds no tensors and plain values") from None
    if not isinstance(state, dict):
        raise DamagedCheckpointError(f"{name} holds no state of a run")
    return state  # pyright: ignore[reportUnknownVariableType]


def _check_state(folder: Path, manifest: Manifest) -> None:
    """The state says what the manifest says."""
    name = manifest.parts("state")[0]
    training = read_state(folder, name).get("training")
    for key in ("step", "tokens", "status"):
        said = training.get(key) if isinstance(training, dict) else None  # pyright: ignore
        if said != getattr(manifest, key):
            raise DamagedCheckpointError(
                f"its manifest says {key} {getattr(manifest, key)}, {name} {said}"
            )


def _check_file(file: Path, saved: FileDigest) -> None:
    if checksum(file) != saved:
        raise DamagedCheckpointError(f"{file.name} is not what was saved")


def checksum(file: Path) -> FileDigest:
    """Of a file, as manifests hold it. Raises DamagedCheckpointError where there is no such file,
    and OSError where it cannot be read."""
    with _opened(file) as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        return FileDigest(sha256=digest, bytes=os.fstat(content.fileno()).st_size)


def _opened(file: Path) -> BufferedReader:
    """A plain file: no link, and no pipe, which might never end."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in ABSENT:
            raise DamagedCheckpointError(f"{file.name}: {error.strerror}") from None
        raise
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    raise DamagedCheckpointError(f"{file.name} is no plain file")


def step_folders(checkpoints: Path) -> list[Path]:
    """Newest first. Raises UserError where the folder cannot be read."""
    try:
        found = [path for path in checkpoints.iterdir() if STEP_FOLDER.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{checkpoints} cannot be read ({error.strerror}); mend that") from None
    return sorted(found, key=step_of, reverse=True)


def step_of(folder: Path) -> int:
    """The step after which the checkpoint in `folder` was saved."""
    return int(folder.name.removeprefix("step-"))
