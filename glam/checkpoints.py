"""Which of a run's checkpoints are whole. A checkpoint is a folder `step-00001234/` with weights,
state and a manifest that holds the checksums of both; one that does not match it is passed over."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

WEIGHTS, STATE, MANIFEST = "model.safetensors", "state.pt", "manifest.json"


class Found(NamedTuple):
    path: Path
    manifest: dict[str, Any]


class DamagedCheckpointError(Exception):
    """One clause that says what is wrong with it."""


def step_folder(checkpoints: Path, step: int) -> Path:
    return checkpoints / f"step-{step:08d}"


def newest_checkpoint(checkpoints: Path) -> Found | None:
    """The newest folder whose files match their manifest. A damaged one is reported on stderr,
    one line, and passed over."""
    for folder in step_folders(checkpoints):
        try:
            return Found(folder, verify(folder))
        except DamagedCheckpointError as damage:
            print(f"checkpoint {folder.name} is damaged ({damage}); passed over", file=sys.stderr)
    return None


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of an undamaged checkpoint. Raises DamagedCheckpointError."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name in (WEIGHTS, STATE):
            if describe(folder / name) != manifest["files"][name]:
                raise DamagedCheckpointError(f"{name} is not what was saved")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(f"{type(error).__name__}: {error}") from None
    return manifest


def describe(file: Path) -> dict[str, Any]:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"sha256": digest, "bytes": file.stat().st_size}


def step_folders(checkpoints: Path) -> list[Path]:
    """Newest first."""
    return sorted(checkpoints.glob("step-" + 8 * "[0-9]"), key=step_of, reverse=True)


def step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))
