# torch.distributed has half its types.
# pyright: basic
"""The processes of torch that train one model together: how they meet, and what they add up."""

import json
import os
from typing import Any

import psutil
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from glam.machine.processes import LOOPBACK, Processes
from glam.machine.waiting import limited

BACKENDS = {"cpu": "gloo", "cuda": "nccl", "tpu": "tpu_dist"}


class TorchProcesses(Processes):
    """See Processes."""

    def __init__(self, device: str, rows: ProcessGroup) -> None:
        """`rows` are the processes of one place in the model, each of which has its own rows."""
        self.rank, self.size, self._device = dist.get_rank(), dist.get_world_size(), device
        self._rows = rows

    @property
    def part(self) -> int:
        return self._rows.rank()

    @property
    def parts(self) -> int:
        return self._rows.size()

    def sum(self, tensor: Tensor) -> Tensor:
        return self._added(tensor, self._rows)

    def total(self, tensor: Tensor) -> Tensor:
        return self._added(tensor, None)

    def _added(self, tensor: Tensor, group: ProcessGroup | None) -> Tensor:
        # A TPU computes no float64 by itself.
        dtype = torch.float32 if self._device == "tpu" and tensor.is_floating_point() else None
        total = tensor.detach().to(self._device, dtype or tensor.dtype, copy=True)
        dist.all_reduce(total, group=group)
        return total.to(tensor.device, tensor.dtype)

    def largest(self, *values: int) -> tuple[int, ...]:
        found = torch.tensor(values).to(self._device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return tuple(int(value) for value in found.cpu())

    def of_main(self, value: Any) -> Any:
        """The main process's `value`, in all: as bytes, since not every backend has torch's
        collectives of objects. Plain values alone; paths become text."""
        made = json.dumps(value, default=str).encode() if self.is_main else b""
        (length,) = self.largest(len(made))
        sent = torch.tensor(list(made.ljust(length)), dtype=torch.uint8).to(self._device)
        dist.broadcast(sent, 0)
        return json.loads(bytes(sent.cpu().tolist()))


def meet(device: str) -> None:
    """Wait for the other processes, up to a limit, and connect to them."""
    if os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]:
        _over_loopback()
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    with limited(
        f"{os.environ['WORLD_SIZE']} processes to meet at {where}",
        "start the command on every node, where that address is reachable, and prepare the text "
        "there first (task=prepare)",
    ):
        if not dist.is_initialized():
            dist.init_process_group(BACKENDS[device])
        dist.barrier()  # NCCL connects here; the main process has moved an old run aside by now


def _over_loopback() -> None:
    """Processes of one node need no network, and no name of this machine that resolves."""
    os.environ["MASTER_ADDR"] = LOOPBACK
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == LOOPBACK for one in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
