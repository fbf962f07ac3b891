"""Checkpoints as folders, complete or absent. `step-00001234/` holds the weights and the tensors of
optimizer state (safetensors), the other state (tensors and plain values alone), and a manifest with
the checksums of all. What is read of them is read tensor by tensor, each in its place before the
next.

Why not torch.distributed.checkpoint: its own files hold a pickle that it loads unsafely, and its
safetensors hold no plain values and no checksums, are copied once more in memory while they are
written, and know no XLA (experiments/reliability/checkpoints.py measures both).
"""

import io
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from lightning.fabric.plugins.io import CheckpointIO
from torch import Tensor
from torch.utils._pytree import tree_map_only

from glam.errors import UserError, first_line
from glam.model.saved import read_weights
from glam.model.saved_tensors import (
    SAVE_ERRORS,
    SafetensorsSource,
    SavedTensors,
    Source,
    StateSource,
    save_tensors,
    unfit,
)
from glam.runs.checkpoints import (
    checksum,
    read_manifest,
    read_state,
    step_folders,
    step_of,
)
from glam.runs.manifest import (
    MANIFEST,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    DamagedCheckpointError,
    FileDigest,
    Manifest,
)

PREFIX = "model."  # the network's name inside the LightningModule


class Parts(NamedTuple):
    """A checkpoint as it is written: tensors by name, and all else."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]  # by `<parameter>/<name>`
    state: dict[str, Any]

    @classmethod
    def of(cls, checkpoint: dict[str, Any]) -> "Parts":
        """The parts of Lightning's checkpoint dictionary."""
        named = checkpoint["state_dict"].items()
        [optimizer] = checkpoint["optimizer_states"]
        tensors, plain = dict[str, Tensor](), dict[int, dict[str, Any]]()
        for index, values in optimizer["state"].items():
            plain[index] = {}
            for name, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"{index}/{name}"] = value
                else:
                    plain[index][name] = value
        names = ("pytorch-lightning_version", "global_step", "epoch", "training")
        state = {name: checkpoint[name] for name in names}
        state["optimizer_states"] = [{**optimizer, "state": plain}]
        weights = {name.removeprefix(PREFIX): value for name, value in named}
        return cls(weights, tensors, {**state, "lr_schedulers": []})


class SavedState(Mapping[int, dict[str, Any]]):
    """Optimizer state by the number of its parameter, read when it is asked for."""

    def __init__(self, tensors: SavedTensors, plain: dict[int, dict[str, Any]]) -> None:
        self.tensors, self._plain = tensors, plain

    def __iter__(self) -> Iterator[int]:
        return iter(self._plain)

    def __len__(self) -> int:
        return len(self._plain)

    def __getitem__(self, index: int) -> dict[str, Any]:
        read = {name: self.tensors[f"{index}/{name}"] for name in self.names(index)}
        return read | self._plain[index]

    def plain(self, index: int) -> dict[str, Any]:
        """The values of a parameter that are no tensors."""
        return self._plain[index]

    def names(self, index: int) -> list[str]:
        """Of a parameter's tensors."""
        both = (key.split("/", 1) for key in self.tensors)
        return [name for number, name in both if number == str(index)]


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
        """Lightning's checkpoint dictionary, in which weights and optimizer state are read when
        they are asked for. Raises UserError for one that does not hold what its manifest says."""
        folder = Path(path)
        try:
            manifest = read_manifest(folder)
            states = [read_state(folder, name) for name in manifest.parts("state")]
            [optimizer] = states[0]["optimizer_states"]
            state = _saved_state(folder, manifest, states)
        except UserError:
            raise
        except OSError as error:
            raise UserError(f"checkpoint {folder} cannot be read ({error.strerror})") from None
        except (DamagedCheckpointError, LookupError, TypeError, ValueError) as error:
            raise unfit(f"checkpoint {folder}", first_line(error)) from None
        weights = read_weights(folder, manifest, PREFIX)
        read = {
            "training": tree_map_only(Tensor, torch.clone, states[0]["training"]),  # not the file's
            "state_dict": weights,
            "optimizer_states": [{**optimizer, "state": state}],
        }
        return {**states[0], **read}

    def finish(self) -> None:
        """Wait for a checkpoint that is being written; here none is."""

    def remove_checkpoint(self, path: str | Path) -> None:
        shutil.rmtree(path)


def tmp_path(path: Path) -> Path:
    """The temporary folder of a checkpoint that is being written."""
    return path.with_name(f".{path.name}.part")


def _saved_state(folder: Path, manifest: Manifest, states: list[dict[str, Any]]) -> SavedState:
    """Optimizer state in the files of any format."""
    plain: dict[Any, Any] = states[0]["optimizer_states"][0]["state"]
    sources: list[Source] = [
        SafetensorsSource(folder / name) for name in manifest.parts("optimizer")
    ]
    if not sources:  # format 1
        names = manifest.parts("state")
        each = [_flat(state["optimizer_states"][0]["state"]) for state in states]
        sources = [
            StateSource(folder / name, found) for name, found in zip(names, each, strict=True)
        ]
        plain = _without_tensors(plain)
    return SavedState(SavedTensors(sources, manifest.split_state | manifest.grid_state), plain)


def _flat(state: dict[Any, Any]) -> dict[str, Tensor]:
    """Tensors by `<parameter>/<name>`. Several processes wrote them so, one did not."""
    if any(isinstance(values, Tensor) for values in state.values()):
        return state
    pairs = (
        (f"{index}/{name}", v) for index, values in state.items() for name, v in values.items()
    )
    return {key: value for key, value in pairs if isinstance(value, Tensor)}


def _without_tensors(state: dict[Any, Any]) -> dict[int, dict[str, Any]]:
    plain = dict[int, dict[str, Any]]()
    for index, values in state.items():
        named = cast(dict[str, Any], values) if isinstance(values, dict) else {}
        rest = {name: value for name, value in named.items() if not isinstance(value, Tensor)}
        plain.setdefault(int(str(index).split("/")[0]), {}).update(rest)
    return plain


def _write(part: Path, checkpoint: dict[str, Any], provenance: dict[str, Any]) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    parts = Parts.of(checkpoint)
    save_tensors(parts.weights, part / WEIGHTS)
    save_tensors(parts.optimizer, part / OPTIMIZER)
    save_state(parts.state, part / STATE)
    files = {name: checksum(part / name) for name in (WEIGHTS, OPTIMIZER, STATE)}
    manifest = manifest_of(parts.state["training"], provenance, files)
    (part / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    for name in (*files, MANIFEST):
        sync(part / name)
    sync(part)


def manifest_of(
    training: dict[str, Any],
    provenance: dict[str, Any],
    files: dict[str, FileDigest],
    **splits: Any,
) -> Manifest:
    """The manifest of a checkpoint: step, tokens, status, fingerprints, and the checksums of
    its files."""
    told = {name: training[name] for name in ("step", "tokens", "status")}
    return Manifest(**told, **provenance, files=files, **splits)


def save_state(state: dict[str, Any], file: Path) -> None:
    """Save what a checkpoint holds besides weights and tensors of optimizer state. It is small, and
    made in memory first: on a full disk, torch's zip writer raises anything but OSError."""
    made = io.BytesIO()
    torch.save(state, made)
    file.write_bytes(made.getbuffer())


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial(checkpoints: Path, up_to: int) -> None:
    """Remove half-written checkpoints, and those after step `up_to`, whose own was loaded: they
    are damaged, or of a past that the run went back from."""
    remove_parts(checkpoints)
    remove_after(checkpoints, up_to)


def remove_parts(checkpoints: Path) -> None:
    """Remove half-written checkpoints; none may be in the making."""
    for folder in checkpoints.glob(".step-*.part"):
        shutil.rmtree(folder)


def remove_after(checkpoints: Path, step: int) -> None:
    """Remove the checkpoints after `step`."""
    for folder in step_folders(checkpoints):
        if step_of(folder) > step:
            shutil.rmtree(folder)


def prune(checkpoints: Path, *, keep_last: int, protected: Collection[int] = ()) -> None:
    """Remove all checkpoints but the newest `keep_last` and those saved after a step in
    `protected`."""
    for folder in step_folders(checkpoints)[keep_last:]:
        if step_of(folder) not in protected:
            shutil.rmtree(folder)
