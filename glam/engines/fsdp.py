# torch.distributed has half its types.
# pyright: basic
"""The engine of several torch processes, one for each device, by DTensors and FSDP2.

Every process has its rows of every batch. Experts that the table splits stay in place, and rows
travel to them (`expert_parallel`). Other split weights are gathered for their product and freed
(FSDP2), or computed with in parts (`tensor_parallel`). Every process has a copy of unsplit weights.
Gradients, losses and log rows are those of the whole batch.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.plugins.io import CheckpointIO
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from glam.config import RunConfig
from glam.engines.sharded_checkpoint import ShardedCheckpointIO
from glam.engines.sharding_plan import (
    ShardingPlan,
    fill,
    fill_all,
    read_state_like,
    state_like,
)
from glam.engines.torch_processes import TorchProcesses, meet
from glam.engines.whole_batch import TracedWholeBatchModule, WholeBatch, WholeBatchModule
from glam.model import Glam
from glam.model.init import draw
from glam.model.saved_tensors import SavedTensors
from glam.training.checkpoint import PREFIX, SavedState
from glam.training.module import TrainingModule
from glam.training.train_state import TrainState


class FsdpStrategy(ModelParallelStrategy):
    """Lightning's view of the processes. Checkpoints are sharded, and load on any number of
    processes. Calls no collective that a TPU lacks."""

    def __init__(
        self, sharding_plan: ShardingPlan, processes: TorchProcesses, checkpoint_io: CheckpointIO
    ) -> None:
        super().__init__(data_parallel_size=processes.size, tensor_parallel_size=1)
        self.sharding_plan, self.processes = sharding_plan, processes
        self.checkpoint_io = checkpoint_io
        self.cluster_environment = TorchElasticEnvironment()

    def setup_environment(self) -> None:
        """The processes have met, and their mesh is there."""
        assert self.accelerator is not None
        self.accelerator.setup_device(self.root_device)
        self.set_world_ranks()

    def barrier(self, name: str | None = None) -> None:
        self.processes.largest(0)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        assert src == 0
        return self.processes.of_main(obj)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert isinstance(self.model, TrainingModule)
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
        assert isinstance(self.model, TrainingModule)
        fill_all(self.model.model, checkpoint["state_dict"])

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            saved, numbers = state["state"], _numbers(state)
            optimizer.load_state_dict({**state, "state": {}})
            ours = (p for group in optimizer.param_groups for p in group["params"])
            for parameter, number in zip(ours, numbers, strict=True):
                optimizer.state[parameter] = _state_of(saved, number, parameter)


def _state_of(saved: SavedState, number: int, weight: Tensor) -> dict[str, Tensor]:
    """The state of one weight, read from a checkpoint."""
    plain = saved.plain(number).items()
    whole = {key: state_like(weight, torch.as_tensor(value)) for key, value in plain}
    return whole | {
        key: read_state_like(weight, saved.tensors, f"{number}/{key}")
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
        if device == "tpu":
            from glam.engines.tpu import load

            load()
        meet(device)
        self.sharding_plan = ShardingPlan(config.hardware, device)
        self.processes = TorchProcesses(device, self.sharding_plan.rows.get_group())
        self.backend = self.sharding_plan.backend(config)

    def module(self, model: Glam, config: RunConfig, train_state: TrainState) -> TrainingModule:
        kind = TracedWholeBatchModule if config.hardware.has_one_shape else WholeBatchModule
        return kind(model, config, train_state, WholeBatch(model, self.sharding_plan))

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
            "accelerator": accelerator(self._device),
            "devices": on_this_node,
            "num_nodes": self.processes.size // on_this_node,
            "strategy": FsdpStrategy(self.sharding_plan, self.processes, checkpoints),
        }

    def place(self, model: Glam) -> None: ...

    def load(self, module: TrainingModule, weights: SavedTensors) -> None:
        fill_all(module.model, weights)


def accelerator(device: str) -> str | Accelerator:
    """Lightning's, or ours where it has none."""
    if device == "tpu":
        from glam.engines.tpu import TpuAccelerator

        return TpuAccelerator()
    return {"cpu": "cpu", "cuda": "gpu"}[device]
