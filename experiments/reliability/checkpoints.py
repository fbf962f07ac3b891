# torch.distributed has half its types.
# pyright: basic, reportPrivateImportUsage=false
"""Memory and seconds of a checkpoint of several processes, beyond what the model itself has: as
glam saves and loads it, as glam 0.2 loaded it, and by torch.distributed.checkpoint.

    python -m experiments.reliability.checkpoints > experiments/reliability/checkpoints.csv

A row is what the process with the highest peak needed. `memory` is the peak of resident pages after
the step began (`VmHWM`), those of mapped files too, in shards: a shard is what one process has of
the weights.
"""

import contextlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, empty

from glam.engines.sharded_checkpoint import ShardedCheckpointIO
from glam.machine.processes import Processes
from glam.model.saved_tensors import chunk
from glam.training.checkpoint import PREFIX

RANKS, TENSORS, SHAPE = 4, 16, (4096, 1024)
SHARD = TENSORS * 4 * SHAPE[0] * SHAPE[1] / RANKS  # bytes
TRAINING = {"step": 1, "tokens": 1, "status": "done"}


class Ranks(Processes):
    """Those of this measurement."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()


def resident(what: str) -> int:
    """`VmRSS` (now) or `VmHWM` (the peak since it was set back) in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(what))


def measured(name: str, step: Callable[[], object]) -> None:
    """Print a row for `step`, by the first process."""
    dist.barrier()
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back
    before, began = resident("VmRSS"), time.perf_counter()
    step()
    seconds, peak = time.perf_counter() - began, resident("VmHWM") - before
    worst = torch.tensor([peak / SHARD, seconds])
    dist.all_reduce(worst, dist.ReduceOp.MAX)
    if dist.get_rank() == 0:
        print(f"{name},{worst[0]:.2f},{worst[1]:.2f}", flush=True)


def weights() -> dict[str, DTensor]:
    mesh = init_device_mesh("cpu", (RANKS,))
    made = {f"w{n}": empty(SHAPE, device_mesh=mesh, placements=[Shard(0)]) for n in range(TENSORS)}
    for number, value in enumerate(made.values()):
        value.to_local().fill_(number)
    return made


def lightnings(named: dict[str, Any]) -> dict[str, Any]:
    """The dictionary that Lightning gives to be saved."""
    return {
        "pytorch-lightning_version": "2.6.6",
        "epoch": 0,
        "global_step": 1,
        "state_dict": {PREFIX + name: value for name, value in named.items()},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "training": TRAINING,
    }


def glams(io: ShardedCheckpointIO, named: dict[str, DTensor], folder: Path) -> None:
    def save() -> None:
        io.save_checkpoint(lightnings(named), folder)
        io.finish()

    def load() -> None:
        saved = io.load_checkpoint(folder)["state_dict"]
        mine = chunk(SHAPE[0], dist.get_rank(), RANKS)
        for name, value in named.items():
            value.to_local().copy_(saved.read(PREFIX + name, 0, mine.start, mine.stop))

    measured("glam save", save)
    measured("glam load", load)
    measured("glam 0.2 load", lambda: whole(folder))


def whole(folder: Path) -> dict[str, Tensor]:
    """As glam 0.2 read it: every process all files."""
    parts = [load_file(file) for file in sorted(folder.glob("model-*.safetensors"))]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def torchs(named: dict[str, DTensor], folder: Path) -> None:
    state: dict[str, Any] = dict(named)
    path = str(folder / "hf")
    writer = dcp.HuggingFaceStorageWriter(path, save_distributed=True)
    measured("dcp safetensors save", lambda: dcp.save(state, storage_writer=writer))
    reader = dcp.HuggingFaceStorageReader(path)
    measured("dcp safetensors load", lambda: dcp.load(state, storage_reader=reader))
    path = folder / "own"
    measured("dcp own format save", lambda: dcp.save(state, checkpoint_id=path))
    measured("dcp own format load", lambda: dcp.load(state, checkpoint_id=path))


def measure(rank: int, port: str, folder: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    named = weights()
    io = ShardedCheckpointIO({}, Ranks())
    warm = {"w": named["w0"].to_local()[:1].clone()}
    with contextlib.suppress(FileExistsError):
        (folder / "warm").mkdir()
    io.save_checkpoint(lightnings(warm), folder / "step-00000000")  # imports and threads
    io.finish()
    glams(io, named, folder / "step-00000001")
    torchs(named, folder)
    dist.destroy_process_group()


def main() -> None:
    print("what,memory [shards],seconds", flush=True)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        made = [
            context.Process(target=measure, args=(n, "29577", Path(folder))) for n in range(RANKS)
        ]
        for process in made:
            process.start()
        for process in made:
            process.join()


if __name__ == "__main__":
    main()
