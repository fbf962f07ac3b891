# torch.distributed has half its types.
# pyright: basic
"""Checkpoints of several processes. Each writes its own shards while training goes on; the main
process completes the folder when all have. They communicate through files of the folder alone.

    .step-00001234.part/  model-00002-of-00004.safetensors  state-00002-of-00004.pt
                          shard-00002.json: the second process has written its files
    step-00001234/        the files of all, and manifest.json, which lists what is split
"""

import json
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from glam.engines.expert_parallel import local
from glam.errors import first_line
from glam.log import log
from glam.machine.processes import Processes
from glam.runs.checkpoints import MANIFEST, checksum
from glam.runs.folder import write_atomically
from glam.training.checkpoint import (
    PREFIX,
    SAVE_ERRORS,
    FolderCheckpointIO,
    manifest_of,
    save_state,
    sync,
    tmp_path,
)

POLL_SECONDS = 0.05
# How long the main process waits for the others, beside ten times its own writing time.
PATIENCE_SECONDS = 60.0


class AbandonedError(OSError):
    """Another process could not write its shard, or has ended."""


class ShardedCheckpointIO(FolderCheckpointIO):
    """Copies this process's shards and returns; a thread writes them. A checkpoint that cannot be
    written is warned of, and the run goes on."""

    def __init__(self, provenance: dict[str, Any], processes: Processes) -> None:
        super().__init__(provenance)
        self._processes = processes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        self.finish()
        named = checkpoint["state_dict"]
        weights = {name.removeprefix(PREFIX): value for name, value in named.items()}
        optimizers = [self._sliced_state(state) for state in checkpoint["optimizer_states"]]
        splits = {"split": _splits(weights), "split_state": optimizers[0][1]}
        mine = self._mine(weights)
        state = {**checkpoint, "optimizer_states": [state for state, _ in optimizers]}
        self._writing = self._thread.submit(self._save, mine, state, splits, Path(path))

    def finish(self) -> None:
        """Wait until the checkpoint is written, or has failed."""
        if self._writing is not None:
            self._writing.result()
        self._writing = None

    def _mine(self, named: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copies of this process's shards. Unsplit tensors are copied by the main process alone."""
        return {
            name: local(value).detach().cpu().clone()
            for name, value in named.items()
            if self._processes.is_main or _dim(value) is not None
        }

    def _sliced_state(self, state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
        flat = {
            f"{index}/{key}": torch.as_tensor(value)
            for index, values in state["state"].items()
            for key, value in values.items()
        }
        return {**state, "state": self._mine(flat)}, _splits(flat)

    def _save(
        self,
        weights: dict[str, Tensor],
        checkpoint: dict[str, Any],
        splits: dict[str, Any],
        path: Path,
    ) -> None:
        part = tmp_path(path)
        began = time.monotonic()
        try:
            self._write_mine(part, weights, checkpoint)
            if self._processes.is_main:
                patience = PATIENCE_SECONDS + 10 * (time.monotonic() - began)
                files = self._files_of_all(part, time.monotonic() + patience)
                manifest = manifest_of(checkpoint["training"], self.provenance, files)
                self._make_whole(part, path, manifest | splits)
        except SAVE_ERRORS as error:
            line = first_line(error)
            try:
                write_atomically(
                    part / self._note(self._processes.rank), json.dumps({"error": line})
                )
            except OSError:
                shutil.rmtree(part, ignore_errors=True)  # the others find nothing to wait for
            if self._processes.is_main:
                shutil.rmtree(part, ignore_errors=True)
                log.warning(f"{path.name} could not be saved, the last one stays: {line}")

    def _write_mine(
        self, part: Path, weights: dict[str, Tensor], checkpoint: dict[str, Any]
    ) -> None:
        part.mkdir(parents=True, exist_ok=True)
        number = f"{self._processes.rank + 1:05d}-of-{self._processes.size:05d}"
        names = f"model-{number}.safetensors", f"state-{number}.pt"
        safetensors.save_file(weights, part / names[0])
        save_state(checkpoint, part / names[1])
        files = {}
        for name in names:
            sync(part / name)
            files[name] = checksum(part / name)
        write_atomically(part / self._note(self._processes.rank), json.dumps({"files": files}))

    def _files_of_all(self, part: Path, deadline: float) -> dict[str, Any]:
        """The files that each process has listed. Raises AbandonedError where one failed, or has
        listed none by the deadline (`time.monotonic`)."""
        files: dict[str, Any] = {}
        for rank in range(self._processes.size):
            note = part / self._note(rank)
            while not note.exists():
                if not part.exists() or time.monotonic() > deadline or _is_ending():
                    raise AbandonedError(f"process {rank} has not written its part")
                time.sleep(POLL_SECONDS)
            listed = json.loads(note.read_text(encoding="utf-8"))
            if "error" in listed:
                raise AbandonedError(f"process {rank}: {listed['error']}")
            files |= listed["files"]
        return files

    def _make_whole(self, part: Path, path: Path, manifest: dict[str, Any]) -> None:
        for rank in range(self._processes.size):
            (part / self._note(rank)).unlink()
        (part / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        sync(part / MANIFEST)
        sync(part)
        if path.exists():  # a damaged one of the same step
            shutil.rmtree(path)
        part.rename(path)
        sync(path.parent)

    @staticmethod
    def _note(rank: int) -> str:
        return f"shard-{rank + 1:05d}.json"


def _is_ending() -> bool:
    return not threading.main_thread().is_alive()


def _dim(tensor: Tensor) -> int | None:
    """The dimension along which a tensor is split; None where it is not."""
    if not isinstance(tensor, DTensor):
        return None
    (placement,) = tensor.placements
    return placement.dim if isinstance(placement, Shard) else None


def _splits(named: dict[str, Tensor]) -> dict[str, int]:
    return {name: dim for name, value in named.items() if (dim := _dim(value)) is not None}
