"""Which of a run's checkpoints are whole. A checkpoint is a folder `step-00001234/` with weights,
state and a manifest that holds the checksums of both; one that does not match it is passed over.
Several processes write a file of each apiece (`model-00001-of-00004.safetensors`), and the manifest
says along which dimension a weight is split among them (`split`; `split_state`: optimizer state).
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from glam.log import log

WEIGHTS, STATE, MANIFEST = "model.safetensors", "state.pt", "manifest.json"


class Checkpoint(NamedTuple):
    """A checkpoint that matches its manifest."""

    path: Path
    manifest: dict[str, Any]


class DamagedCheckpointError(Exception):
    """One clause that says what is wrong with it."""


def step_folder(checkpoints: Path, step: int) -> Path:
    """The folder of the checkpoint that was saved after `step` steps."""
    return checkpoints / f"step-{step:08d}"


def newest_checkpoint(checkpoints: Path) -> Checkpoint | None:
    """The newest folder whose files match their manifest. A damaged one is reported on stderr,
    one line, and passed over."""
    for folder in step_folders(checkpoints):
        try:
            return Checkpoint(folder, verify(folder))
        except DamagedCheckpointError as damage:
            log.warning(f"checkpoint {folder.name} is damaged ({damage}); passed over")
    return None


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of an undamaged checkpoint. Raises DamagedCheckpointError."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, saved in manifest["files"].items():
            if checksum(folder / name) != saved:
                raise DamagedCheckpointError(f"{name} is not what was saved")
        if not weight_files(manifest):
            raise DamagedCheckpointError("it has no weights")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(f"{type(error).__name__}: {error}") from None
    return manifest


def weight_files(manifest: dict[str, Any]) -> list[str]:
    """In the order of the processes that wrote them."""
    return sorted(name for name in manifest["files"] if name.endswith(".safetensors"))


def state_files(manifest: dict[str, Any]) -> list[str]:
    """Names of the files that hold optimizer state, in the order of the processes."""
    return sorted(name for name in manifest["files"] if name.endswith(".pt"))


def checksum(file: Path) -> dict[str, Any]:
    """`{sha256, bytes}` of a file, as manifests hold them."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"sha256": digest, "bytes": file.stat().st_size}


def step_folders(checkpoints: Path) -> list[Path]:
    """Newest first."""
    return sorted(checkpoints.glob("step-" + 8 * "[0-9]"), key=step_of, reverse=True)


def step_of(folder: Path) -> int:
    """The step after which the checkpoint in `folder` was saved."""
    return int(folder.name.removeprefix("step-"))
