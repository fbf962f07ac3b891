# torch.distributed has half its types.
# pyright: basic
"""The engine of several torch processes, one for each device, by DTensors and FSDP2.

Every process has its rows of every batch. Experts that the table splits stay in place, and rows
travel to them (`expert_parallel`). Other split weights are gathered for their product and freed
(FSDP2). Every process has a copy of unsplit weights. Gradients, losses and log rows are those of
the whole batch.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist
from lightning import Callback
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.plugins.io import CheckpointIO
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor

from glam.config import HardwareConfig, RunConfig
from glam.config.layout import partition
from glam.engines.expert_parallel import ExpertParallel, local, mean_of_all
from glam.engines.sharded_checkpoint import ShardedCheckpointIO
from glam.machine.processes import LOOPBACK, Processes
from glam.machine.waiting import limited
from glam.model import Glam
from glam.model.backend import Backend
from glam.model.init import draw
from glam.model.saved_tensors import SavedTensors, check_shape, chunk
from glam.training.checkpoint import PREFIX, SavedState
from glam.training.module import TrainingModule, gradients
from glam.training.optimizers import with_own_options
from glam.training.traced import by_definition
from glam.training.train_state import TrainState

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
ACCELERATORS = {"cpu": "cpu", "cuda": "gpu"}


class TorchProcesses(Processes):
    """See Processes."""

    def __init__(self, device: str) -> None:
        self.rank, self.size, self._device = dist.get_rank(), dist.get_world_size(), device

    def sum(self, tensor: Tensor) -> Tensor:
        total = tensor.detach().to(self._device, copy=True)
        dist.all_reduce(total)
        return total.to(tensor.device)

    def largest(self, *values: int) -> tuple[int, ...]:
        found = torch.tensor(values, device=self._device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return tuple(int(value) for value in found.cpu())


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


class ShardingPlan:
    """The layout table as placements on a mesh of one axis."""

    def __init__(self, hardware: HardwareConfig, device: str) -> None:
        self.hardware = hardware
        self.mesh = init_device_mesh(device, (dist.get_world_size(),), mesh_dim_names=("all",))

    @property
    def group(self) -> dist.ProcessGroup:
        return self.mesh.get_group()

    def backend(self) -> Backend:
        """Means over the tokens of all processes; experts that are split, by all-to-all."""
        mean = mean_of_all(self.group)
        if self.split_dim("w_in_EMH") != 0:
            return Backend(mean_over_tokens=mean)
        dispatch = ExpertParallel(self.group)
        return Backend(mean_over_tokens=mean, dispatcher=lambda _: dispatch)

    def split_dim(self, name: str) -> int | None:
        """The dimension along which the weight `name` is split; None where it is not."""
        axes = partition(name.rpartition("_")[2], self.hardware)
        split = [dim for dim, axis in enumerate(axes) if axis and self.hardware.mesh[axis] > 1]
        return split[0] if split else None

    def is_expert_parallel(self, name: str) -> bool:
        return name.rpartition("_")[2].startswith("E") and self.split_dim(name) == 0

    def lay_out(self, model: Glam) -> None:
        """Make every weight that the table splits a DTensor. `model` is on the meta device."""
        dims = {id(p): self.split_dim(name) for name, p in model.named_parameters()}
        stay = {p for name, p in model.named_parameters() if self._stays(name)}
        for module in model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if self.is_expert_parallel(name):
                    stay.remove(parameter)
                    here = nn.Parameter(self.spread(parameter.data, Shard(0)))
                    setattr(module, name, here)
                    stay.add(here)

        def where(parameter: nn.Parameter) -> Shard:
            dim = dims[id(parameter)]
            assert dim is not None
            return Shard(dim)

        for part in [*model.layers, model]:
            if any(p not in stay for p in part.parameters()):
                fully_shard(part, mesh=self.mesh, shard_placement_fn=where, ignored_params=stay)
        if any(p not in stay for p in model.parameters()):
            register_fsdp_forward_method(model, "loss")

    def _stays(self, name: str) -> bool:
        return self.split_dim(name) is None or self.is_expert_parallel(name)

    def spread(self, whole: Tensor, placement: Placement) -> DTensor:
        """The DTensor of a tensor that every process has in full."""
        return distribute_tensor(whole, self.mesh, [placement], src_data_rank=None)

    def state(self, name: str, whole: Tensor, weight: Tensor) -> Tensor:
        """Optimizer state of the weight `name`, split as the weight is."""
        whole = whole.to(weight.device)
        if (placement := self._placement(name, whole.shape, weight)) is None:
            return whole
        return self.spread(whole, placement)

    def _placement(self, name: str, shape: Sequence[int], weight: Tensor) -> Placement | None:
        """Of optimizer state of the weight `name`; None for a plain tensor. State of size 1 along
        the weight's dimension, and state of other rank, is not split."""
        dim = self.split_dim(name)
        if not isinstance(weight, DTensor) or len(shape) != weight.ndim:
            return None
        return Shard(dim) if dim is not None and shape[dim] > 1 else Replicate()

    def read_state(self, name: str, saved: SavedTensors, key: str, weight: Tensor) -> Tensor:
        """As `state`, of the tensor `key` of a checkpoint: only this process's shard is read."""
        shape = saved.shape(key)
        placement = self._placement(name, shape, weight)
        if not isinstance(placement, Shard):
            return self.state(name, saved[key], weight)
        dim, mine = placement.dim, self._chunk(shape[placement.dim])
        here = saved.read(key, dim, mine.start, mine.stop).to(weight.device)
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(
            here, self.mesh, [placement], run_check=False, shape=torch.Size(shape), stride=stride
        )

    def _chunk(self, size: int) -> range:
        return chunk(size, self.mesh.get_local_rank(), self.mesh.size())


@torch.no_grad()
def fill(parameter: Tensor, whole: Tensor) -> None:
    """Copy this process's shard of `whole` into `parameter`."""
    if isinstance(parameter, DTensor):
        mesh, placements = parameter.device_mesh, parameter.placements
        whole = distribute_tensor(
            whole.to(parameter.device), mesh, placements, src_data_rank=None
        ).to_local()
    local(parameter).copy_(whole)


@torch.no_grad()
def fill_all(model: Glam, weights: SavedTensors) -> None:
    """Fill every parameter from a checkpoint, by name. Of a split one this process's shard alone is
    read."""
    for name, parameter in model.named_parameters():
        check_shape(weights, PREFIX + name, parameter)
        if not isinstance(parameter, DTensor):
            parameter.copy_(weights[PREFIX + name])
            continue
        [placement], mesh = parameter.placements, parameter.device_mesh
        assert isinstance(placement, Shard)
        size = parameter.shape[placement.dim]
        mine = chunk(size, mesh.get_local_rank(), mesh.size())
        here = weights.read(PREFIX + name, placement.dim, mine.start, mine.stop)
        parameter.to_local().copy_(here)


class FsdpModule(TrainingModule):
    """A TrainingModule whose gradients are the whole batch's."""

    def __init__(
        self,
        model: Glam,
        config: RunConfig,
        train_state: TrainState,
        sharding_plan: ShardingPlan,
        processes: TorchProcesses,
    ) -> None:
        super().__init__(model, config, train_state)
        self.sharding_plan, self.processes = sharding_plan, processes
        named = list(model.named_parameters())
        self._expert_parallel = [p for name, p in named if sharding_plan.is_expert_parallel(name)]
        self._whole = [p for name, p in named if sharding_plan.split_dim(name) is None]

    def configure_model(self) -> None:
        """Lightning asks for it; the engine has laid the model out before."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer, first_state, makes_state = by_definition(self.config.optimizer, self.model)
        for name, parameter in self.model.named_parameters():
            state = {} if makes_state else first_state(parameter.shape)
            if state:
                optimizer.state[parameter] = {
                    key: self.sharding_plan.state(name, value, parameter)
                    for key, value in state.items()
                }
        return with_own_options(optimizer)

    def grad_norm(self) -> Tensor:
        self._complete()
        shards, whole = list[Tensor](), list[Tensor]()
        for gradient in gradients(self.model.parameters()):
            is_shard = isinstance(gradient, DTensor)
            (shards if is_shard else whole).append(local(gradient))
        squares = torch.nn.utils.get_total_norm(shards).square() if shards else torch.zeros(())
        total = self.processes.sum(squares)
        return (total + torch.nn.utils.get_total_norm(whole).square().to(total.device)).sqrt()

    @torch.no_grad()
    def _complete(self) -> None:
        """Average over processes the gradients that FSDP does not average."""
        size = self.processes.size
        for gradient in gradients(self._expert_parallel):
            local(gradient).div_(size)  # a sum already: rows of all processes came to it
        whole = gradients(self._whole)
        together = torch.cat([gradient.flatten() for gradient in whole])
        dist.all_reduce(together)
        parts = together.div_(size).split([gradient.numel() for gradient in whole])
        for gradient, part in zip(whole, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    @torch.no_grad()
    def clip(self, norm: Tensor) -> None:
        for gradient in gradients(self.model.parameters()):
            local(gradient).mul_(self._clip_norm / (norm + 1e-6))


class FsdpStrategy(ModelParallelStrategy):
    """Lightning's view of the processes. Checkpoints are sharded, and load on any number of
    processes."""

    def __init__(
        self, sharding_plan: ShardingPlan, processes: TorchProcesses, checkpoint_io: CheckpointIO
    ) -> None:
        super().__init__(data_parallel_size=processes.size, tensor_parallel_size=1)
        self.sharding_plan, self.processes = sharding_plan, processes
        self.checkpoint_io = checkpoint_io
        self.cluster_environment = TorchElasticEnvironment()

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert isinstance(self.model, FsdpModule)
        named = self.model.model.named_parameters()
        return {PREFIX + name: parameter.detach() for name, parameter in named}

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        return optimizer.state_dict()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        self.checkpoint_io.save_checkpoint(checkpoint, filepath)

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return self.checkpoint_io.load_checkpoint(checkpoint_path)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert isinstance(self.model, FsdpModule)
        fill_all(self.model.model, checkpoint["state_dict"])

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        assert isinstance(self.model, FsdpModule)
        names = {parameter: name for name, parameter in self.model.model.named_parameters()}
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            saved, numbers = state["state"], _numbers(state)
            optimizer.load_state_dict({**state, "state": {}})
            ours = (p for group in optimizer.param_groups for p in group["params"])
            for parameter, number in zip(ours, numbers, strict=True):
                optimizer.state[parameter] = self._state_of(
                    saved, number, names[parameter], parameter
                )

    def _state_of(
        self, saved: SavedState, number: int, name: str, weight: Tensor
    ) -> dict[str, Tensor]:
        """The state of one weight, read from a checkpoint."""
        plan = self.sharding_plan
        plain = saved.plain(number).items()
        whole = {key: plan.state(name, torch.as_tensor(value), weight) for key, value in plain}
        return whole | {
            key: plan.read_state(name, saved.tensors, f"{number}/{key}", weight)
            for key in saved.names(number)
        }


def _numbers(state: dict[str, Any]) -> list[int]:
    """The numbers of the parameters in a checkpoint, in the order of the optimizer's groups."""
    return [number for group in state["param_groups"] for number in group["params"]]


class FsdpEngine:
    """See `glam.training.engine.Engine`."""

    def __init__(self, config: RunConfig, device: str) -> None:
        self.config, self._device = config, device
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        meet(device)
        self.processes, self.sharding_plan = (
            TorchProcesses(device),
            ShardingPlan(config.hardware, device),
        )
        self.backend = self.sharding_plan.backend()

    def module(self, model: Glam, config: RunConfig, train_state: TrainState) -> FsdpModule:
        return FsdpModule(model, config, train_state, self.sharding_plan, self.processes)

    def materialize(self, model: Glam, seed: int | None) -> None:
        self.sharding_plan.lay_out(model)
        model.to_empty(device=self._device)
        if seed is None:
            return
        for name, parameter in model.named_parameters():
            whole = torch.empty(parameter.shape)
            draw(whole, name, seed)
            fill(parameter, whole)

    def checkpoints(self, provenance: dict[str, Any]) -> ShardedCheckpointIO:
        return ShardedCheckpointIO(provenance, self.processes)

    def callbacks(self) -> list[Callback]:
        return []

    def trainer_arguments(self, checkpoints: CheckpointIO) -> dict[str, Any]:
        on_this_node = int(os.environ["LOCAL_WORLD_SIZE"])
        return {
            "accelerator": ACCELERATORS[self._device],
            "devices": on_this_node,
            "num_nodes": self.processes.size // on_this_node,
            "strategy": FsdpStrategy(self.sharding_plan, self.processes, checkpoints),
        }

    def place(self, model: Glam) -> None: ...

    def load(self, module: TrainingModule, weights: SavedTensors) -> None:
        fill_all(module.model, weights)
