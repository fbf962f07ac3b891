# torch.distributed has half its types.
# pyright: basic
"""Checkpoints that are written while training goes on: of several processes, and of one whose
weights are on another device. Each process writes its own shards. The main process completes the
folder when all have written. They communicate through files of the folder alone.

    .step-00001234.part/  model-00002-of-00004.safetensors  optimizer-00002-of-00004.safetensors
                          shard-00002-7.json: the second process has written its files,
                          in the seventh save
    step-00001234/        the files of all, state.pt (of the main process), and manifest.json,
                          which tells along which dimension a tensor is split
"""

import dataclasses
import json
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.utils._pytree import tree_map_only

from glam.engines.expert_parallel import local
from glam.errors import first_line
from glam.log import log
from glam.machine.processes import Processes
from glam.model.saved_tensors import save_tensors
from glam.runs.checkpoints import checksum
from glam.runs.folder import write_atomically
from glam.runs.manifest import (
    MANIFEST,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    FileDigest,
    Grid,
    Manifest,
    Split,
    part_name,
)
from glam.training.checkpoint import (
    FolderCheckpointIO,
    Parts,
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


def host_copy(tensor: Tensor) -> Tensor:
    """What this process has of a tensor, on the CPU."""
    return local(tensor).detach().to("cpu", copy=True)


class ShardedCheckpointIO(FolderCheckpointIO):
    """Copies this process's shards and returns; a thread writes them. A checkpoint that cannot be
    written is warned of, and the run goes on."""

    def __init__(
        self,
        provenance: dict[str, Any],
        processes: Processes,
        copy: Callable[[Tensor], Tensor] = host_copy,
    ) -> None:
        super().__init__(provenance)
        self._processes, self._copy = processes, copy
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._saves = 0  # the same in all processes

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        self.finish()
        self._saves += 1
        parts = Parts.of(checkpoint)
        split, grid = _splits(parts.weights, self._processes.size)
        split_state, grid_state = _splits(parts.optimizer, self._processes.size)
        splits = {"split": split, "split_state": split_state}
        splits |= {"grid": grid, "grid_state": grid_state}
        state = tree_map_only(Tensor, self._copy, parts.state)
        mine = Parts(self._mine(parts.weights), self._mine(parts.optimizer), state)
        self._writing = self._thread.submit(self._save, mine, splits, Path(path))

    def finish(self) -> None:
        """Wait until the checkpoint is written, or has failed, of which a line tells."""
        if self._writing is not None:
            self._writing.result()
        self._writing = None

    def _mine(self, named: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copies of this process's shards. What several processes have, one of them copies."""
        return {name: self._copy(value) for name, value in named.items() if self._is_mine(value)}

    def _is_mine(self, value: Tensor) -> bool:
        return _is_first_copy(value) if isinstance(value, DTensor) else self._processes.is_main

    def _save(self, mine: Parts, splits: dict[str, Any], path: Path) -> None:
        part = tmp_path(path)
        began = time.monotonic()
        try:
            self._write_mine(part, mine)
            if self._processes.is_main:
                patience = PATIENCE_SECONDS + 10 * (time.monotonic() - began)
                files = self._files_of_all(part, time.monotonic() + patience)
                manifest = manifest_of(mine.state["training"], self.provenance, files, **splits)
                self._make_whole(part, path, manifest)
        except Exception as error:  # whatever it is, the run goes on
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

    def _write_mine(self, part: Path, mine: Parts) -> None:
        part.mkdir(parents=True, exist_ok=True)
        rank, size = self._processes.rank, self._processes.size
        weights, optimizer = (part_name(name, rank, size) for name in (WEIGHTS, OPTIMIZER))
        save_tensors(mine.weights, part / weights)
        save_tensors(mine.optimizer, part / optimizer)
        names = [weights, optimizer]
        if self._processes.is_main:
            save_state(mine.state, part / STATE)
            names.append(STATE)
        files = {}
        for name in names:
            sync(part / name)
            files[name] = dataclasses.asdict(checksum(part / name))
        write_atomically(part / self._note(rank), json.dumps({"files": files}))

    def _files_of_all(self, part: Path, deadline: float) -> dict[str, FileDigest]:
        """The files that each process has listed. Raises AbandonedError where one failed, or has
        listed none by the deadline (`time.monotonic`)."""
        files: dict[str, FileDigest] = {}
        for rank in range(self._processes.size):
            note = part / self._note(rank)
            while not note.exists():
                if not part.exists() or time.monotonic() > deadline or _is_ending():
                    raise AbandonedError(f"process {rank} has not written its part")
                time.sleep(POLL_SECONDS)
            listed = json.loads(note.read_text(encoding="utf-8"))
            if "error" in listed:
                raise AbandonedError(f"process {rank}: {listed['error']}")
            files |= {name: FileDigest(**of) for name, of in listed["files"].items()}
        return files

    def _make_whole(self, part: Path, path: Path, manifest: Manifest) -> None:
        for note in part.glob("shard-*.json"):
            note.unlink()
        (part / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        sync(part / MANIFEST)
        sync(part)
        if path.exists():  # a damaged one of the same step
            shutil.rmtree(path)
        part.rename(path)
        sync(path.parent)

    def _note(self, rank: int) -> str:
        """Named by the save, since a process that was slow may still write for one that the main
        process gave up, of the same step before the run went back."""
        return f"shard-{rank + 1:05d}-{self._saves}.json"


def _is_ending() -> bool:
    return not threading.main_thread().is_alive()


def _grid(tensor: Tensor) -> Grid:
    """The dimensions along which a tensor is split (`glam.runs.manifest.Grid`)."""
    if not isinstance(tensor, DTensor):
        return []
    mesh = tensor.device_mesh
    return [
        (one.dim, tensor.shape[one.dim], mesh.size(axis), _step(mesh, axis))
        for axis, one in enumerate(tensor.placements)
        if isinstance(one, Shard)
    ]


def _step(mesh: DeviceMesh, axis: int) -> int:
    """How far the ranks of neighbours along a mesh axis lie apart."""
    along = mesh.mesh.movedim(axis, 0).reshape(mesh.size(axis), -1)[:, 0].tolist()
    return along[1] - along[0] if len(along) > 1 else 1


def _is_first_copy(tensor: DTensor) -> bool:
    """Whether this process writes what it has of a tensor: of several that have the same, the one
    of the lowest rank does."""
    mesh, unsplit = tensor.device_mesh, [not isinstance(p, Shard) for p in tensor.placements]
    if 0 not in mesh.mesh.flatten().tolist():
        return False
    return not any(
        mesh.get_local_rank(axis) for axis, is_unsplit in enumerate(unsplit) if is_unsplit
    )


def _splits(named: dict[str, Tensor], size: int) -> tuple[dict[str, Split], dict[str, Grid]]:
    """How the tensors are split among `size` processes: those that are along one dimension, and the
    others."""
    splits, grids = dict[str, Split](), dict[str, Grid]()
    for name, value in named.items():
        match _grid(value):
            case []:
                pass
            case [(dim, whole, chunks, _)] if chunks == size:
                splits[name] = (dim, whole)
            case grid:
                grids[name] = grid
    return splits, grids
