"""Checkpoints as folders, complete or absent. `step-00001234/` holds the weights (safetensors), the
other state (tensors and plain values alone), and a manifest with the checksums of both."""

import errno
import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import CheckpointIO
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from glam.model.saved import join_parts, read_weights
from glam.runs.checkpoints import (
    MANIFEST,
    STATE,
    WEIGHTS,
    checksum,
    state_files,
    step_folders,
    step_of,
)

KEPT = 2
PREFIX = "model."  # the network's name inside the LightningModule
SAVE_ERRORS = (OSError, SafetensorError)  # what a full disk raises


class FolderCheckpointIO(CheckpointIO):
    """Writes Lightning's checkpoint dictionary to a folder, and reads it. Lightning's loop progress
    is left out: the position is the TrainState's step."""

    def __init__(self, provenance: dict[str, Any]) -> None:
        """`provenance` (code, data, machine) goes into every manifest."""
        self.provenance = provenance

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a temporary folder, flush it, rename it. Raises one of SAVE_ERRORS where the disk
        is full, and leaves nothing behind."""
        path = Path(path)
        part = tmp_path(path)
        try:
            _write(part, checkpoint, self.provenance)
            if path.exists():  # a damaged one of the same step
                shutil.rmtree(path)
            part.rename(path)
            sync(path.parent)
        except SAVE_ERRORS:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        folder = Path(path)
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        weights = read_weights(folder, manifest)
        files = [folder / name for name in state_files(manifest)]
        states = [torch.load(file, map_location="cpu", weights_only=True) for file in files]
        state = _joined_state(states, manifest["split_state"]) if len(files) > 1 else states[0]
        return {**state, "state_dict": {PREFIX + name: value for name, value in weights.items()}}

    def finish(self) -> None:
        """Wait for a checkpoint that is being written; here none is."""

    def remove_checkpoint(self, path: str | Path) -> None:
        shutil.rmtree(path)


def tmp_path(path: Path) -> Path:
    """The temporary folder of a checkpoint that is being written."""
    return path.with_name(f".{path.name}.part")


def _joined_state(states: list[dict[str, Any]], splits: dict[str, int]) -> dict[str, Any]:
    """The states of several processes as that of one. Optimizer state is keyed
    `<parameter>/<name>`."""
    optimizers = [state["optimizer_states"][0] for state in states]
    whole: dict[int, dict[str, Tensor]] = {}
    for key, value in join_parts([one["state"] for one in optimizers], splits).items():
        index, name = key.split("/")
        whole.setdefault(int(index), {})[name] = value
    return {**states[0], "optimizer_states": [{**optimizers[0], "state": whole}]}


def _write(part: Path, checkpoint: dict[str, Any], provenance: dict[str, Any]) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    weights = {
        name.removeprefix(PREFIX): value.contiguous()
        for name, value in checkpoint["state_dict"].items()
    }
    safetensors.save_file(weights, part / WEIGHTS)  # pyright: ignore[reportUnknownMemberType]
    save_state(checkpoint, part / STATE)
    files = {name: checksum(part / name) for name in (WEIGHTS, STATE)}
    manifest = manifest_of(checkpoint["training"], provenance, files)
    (part / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    for name in (WEIGHTS, STATE, MANIFEST):
        sync(part / name)
    sync(part)


def manifest_of(
    training: dict[str, Any], provenance: dict[str, Any], files: dict[str, Any]
) -> dict[str, Any]:
    """The manifest of a checkpoint: step, tokens, status, fingerprints, and the checksums of
    its files."""
    told = {name: training[name] for name in ("step", "tokens", "status")}
    return {**told, **provenance, "files": files}


def save_state(checkpoint: dict[str, Any], file: Path) -> None:
    """Save all of a checkpoint but the weights."""
    names = ("pytorch-lightning_version", "global_step", "epoch", "optimizer_states", "training")
    state = {name: checkpoint[name] for name in names}
    try:
        torch.save({**state, "lr_schedulers": []}, file)
    except RuntimeError as error:
        if "inline_container" not in str(error):
            raise
        # On a full disk, torch's zip writer reports a wrong position.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name) from error


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial(checkpoints: Path, up_to: int) -> None:
    """Remove half-written checkpoints, and damaged ones after step `up_to`, where a run resumes."""
    for folder in checkpoints.glob(".step-*.part"):
        shutil.rmtree(folder)
    for folder in step_folders(checkpoints):
        if step_of(folder) > up_to:
            shutil.rmtree(folder)


def prune(checkpoints: Path, *, keep_last: int, protected: Collection[int] = ()) -> None:
    """Remove all checkpoints but the newest `keep_last` and those saved after a step in
    `protected`."""
    for folder in step_folders(checkpoints)[keep_last:]:
        if step_of(folder) not in protected:
            shutil.rmtree(folder)
