"""Checkpoints as folders that are complete or absent: `step-00001234/` holds the weights
(safetensors), the rest of the state (tensors and plain values only) and a manifest with the
checksums of both."""

import errno
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins.io import CheckpointIO
from safetensors import SafetensorError
from safetensors import torch as safetensors

WEIGHTS, STATE, MANIFEST = "model.safetensors", "state.pt", "manifest.json"
KEPT = 2
PREFIX = "model."  # the network's name inside the LightningModule
SAVE_ERRORS = (OSError, SafetensorError)  # what a full disk raises


class Found(NamedTuple):
    path: Path
    manifest: dict[str, Any]


class DamagedCheckpointError(Exception):
    """One clause that says what is wrong with it."""


class FolderCheckpointIO(CheckpointIO):
    """Lightning's checkpoint dictionary to a folder and back. Loop progress is left out: our
    position is the ledger's step."""

    def __init__(self, fingerprints: dict[str, str]) -> None:
        self.fingerprints = fingerprints

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write beside, flush to the disk, rename. Raises one of SAVE_ERRORS, with nothing left
        behind, when the disk is full."""
        path = Path(path)
        part = path.with_name(f".{path.name}.part")
        try:
            _write(part, checkpoint, self.fingerprints)
            if path.exists():  # a damaged one of the same step
                shutil.rmtree(path)
            part.rename(path)
            _sync(path.parent)
        except SAVE_ERRORS:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        weights = safetensors.load_file(Path(path) / WEIGHTS)  # pyright: ignore[reportUnknownMemberType]
        state = torch.load(Path(path) / STATE, map_location="cpu", weights_only=True)
        return {**state, "state_dict": {PREFIX + name: value for name, value in weights.items()}}

    def remove_checkpoint(self, path: str | Path) -> None:
        shutil.rmtree(path)


def _write(part: Path, checkpoint: dict[str, Any], fingerprints: dict[str, str]) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    weights = {
        name.removeprefix(PREFIX): value.contiguous()
        for name, value in checkpoint["state_dict"].items()
    }
    safetensors.save_file(weights, part / WEIGHTS)  # pyright: ignore[reportUnknownMemberType]
    names = ("pytorch-lightning_version", "global_step", "epoch", "optimizer_states", "training")
    state = {name: checkpoint[name] for name in names}
    _save_state({**state, "lr_schedulers": []}, part / STATE)
    training = checkpoint["training"]
    manifest = {
        **{name: training[name] for name in ("step", "tokens", "status")},
        **fingerprints,
        "files": {name: _describe(part / name) for name in (WEIGHTS, STATE)},
    }
    (part / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    for name in (WEIGHTS, STATE, MANIFEST):
        _sync(part / name)
    _sync(part)


def _save_state(state: dict[str, Any], file: Path) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:
        if "inline_container" not in str(error):
            raise
        # torch's zip writer, when its disk is full, complains of positions.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name) from error


def _describe(file: Path) -> dict[str, Any]:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"sha256": digest, "bytes": file.stat().st_size}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def step_folder(checkpoints: Path, step: int) -> Path:
    return checkpoints / f"step-{step:08d}"


def newest_checkpoint(checkpoints: Path) -> Found | None:
    """The newest folder whose files match their manifest. A damaged one is reported on stderr,
    one line, and passed over."""
    folders = _step_folders(checkpoints)
    for folder in folders:
        try:
            return Found(folder, verify(folder))
        except DamagedCheckpointError as damage:
            print(f"checkpoint {folder.name} is damaged ({damage}); passed over", file=sys.stderr)
    if folders:
        print("no checkpoint can be read; the run starts anew", file=sys.stderr)
    return None


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of an undamaged checkpoint. Raises DamagedCheckpointError."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name in (WEIGHTS, STATE):
            if _describe(folder / name) != manifest["files"][name]:
                raise DamagedCheckpointError(f"{name} is not what was saved")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(f"{type(error).__name__}: {error}") from None
    return manifest


def tidy(checkpoints: Path, up_to: int) -> None:
    """Before a run goes on at step `up_to`: remove half-written folders and damaged later ones."""
    for folder in checkpoints.glob(".step-*.part"):
        shutil.rmtree(folder)
    for folder in _step_folders(checkpoints):
        if _step_of(folder) > up_to:
            shutil.rmtree(folder)


def prune(checkpoints: Path) -> None:
    for folder in _step_folders(checkpoints)[KEPT:]:
        shutil.rmtree(folder)


def _step_folders(checkpoints: Path) -> list[Path]:
    """Newest first."""
    return sorted(checkpoints.glob("step-" + 8 * "[0-9]"), key=_step_of, reverse=True)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))
