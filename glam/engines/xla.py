# torch_xla lives in an environment of its own (make xla) and ships no types.
# pyright: basic, reportMissingImports=false
"""The XLA engine: one process, a mesh of devices (SPMD). The layout table splits weights, optimizer
state and activations from outside the model; GSPMD, XLA's partitioner, does the rest.

Only this module starts XLA's runtime, which a process can do once.
"""

import importlib.util
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.io import CheckpointIO
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn

from glam.config import HardwareConfig, RunConfig
from glam.config.layout import check_divides, loss_pieces, partition
from glam.engines.accelerator import PlainAccelerator
from glam.engines.one_device import OneProcess
from glam.engines.sharded_checkpoint import ShardedCheckpointIO
from glam.engines.xla_layers import einsum, layer_runner
from glam.errors import UserError
from glam.machine.waiting import limited
from glam.model import Glam
from glam.model.backend import Backend
from glam.model.loss import LossSplit
from glam.model.moe.experts import Experts
from glam.training.module import StepBatch
from glam.training.traced import TracedModule


def start(hardware: HardwareConfig) -> None:
    """Start the runtime. Raises UserError where the number of devices is not that of the mesh."""
    if hardware.device == "xla_cpu":  # without effect once the runtime has started
        os.environ["PJRT_DEVICE"] = "CPU"
        os.environ["CPU_NUM_DEVICES"] = str(hardware.devices)
        # Lightning counts TPUs, none of which is here, and asks for their kind all the same.
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v4-8")
        if importlib.util.find_spec("jax") is not None:
            import jax  # a loop over layers is traced with it; it would start a TPU

            jax.config.update("jax_platforms", "cpu")
    os.environ.setdefault("PJRT_DEVICE", "TPU")
    import torch_xla.runtime as runtime

    with limited(
        f"the devices of hardware={hardware.name}",
        "start the command on every host of the slice; another process may hold its chips",
    ):
        if not runtime.is_spmd():
            runtime.use_spmd()
        found = runtime.global_runtime_device_count()
    if found != hardware.devices:
        raise UserError(
            f"hardware={hardware.name} is of {hardware.devices} devices and XLA finds {found}; "
            f"set hardware.mesh to sizes whose product is {found}"
        )


def traced_backend(config: RunConfig) -> Backend:
    """The Backend for a compiler that sees the whole step."""
    return Backend(
        run_layers=layer_runner(config),
        einsum=einsum,
        loss_split=LossSplit(config.hardware.shards("batch"), loss_pieces(config)),
    )


class Sharding:
    """The layout table as annotations of tensors on the mesh."""

    def __init__(self, hardware: HardwareConfig, *, described: bool = False) -> None:
        """`described`: the devices are not in this machine."""
        import torch_xla.distributed.spmd as spmd

        self.hardware, self._spmd = hardware, spmd
        names, shape = tuple(hardware.mesh), tuple(hardware.mesh.values())
        if hardware.device == "tpu" and not described:
            # Neighbours in the mesh are neighbours in the TPU slice.
            self.mesh = spmd.HybridMesh(ici_mesh_shape=shape, axis_names=names)
        else:
            self.mesh = spmd.Mesh(np.arange(hardware.devices), shape, names)

    def mark(self, tensor: Tensor, axes: tuple[str | None, ...]) -> Tensor:
        """Annotate an input of the graph, in place."""
        self._spmd.mark_sharding(tensor, self.mesh, axes)
        return tensor

    def flow(self, tensor: Tensor, *logical: str | None) -> Tensor:
        """`tensor` with its annotation, which its gradient gets too. Axes that the mesh does not
        divide stay unsplit: generation has batches of one row."""
        rules, mesh = self.hardware.split_by, self.hardware.mesh
        axes: list[str | None] = []
        for name, size in zip(logical, tensor.shape, strict=True):
            axis = rules.get(name or "")
            fits = axis is not None and axis not in axes and size % mesh[axis] == 0
            axes.append(axis if fits else None)
        return self.flowing(tensor, tuple(axes))

    def flowing(self, tensor: Tensor, axes: tuple[str | None, ...]) -> Tensor:
        """`tensor` and its gradient, annotated."""
        return self._spmd.mark_sharding_with_gradients(tensor, self.mesh, axes)

    def weights(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            letters = name.rpartition("_")[2]
            self.mark(parameter.data, partition(letters, self.hardware))

    def activations(self, model: Glam) -> None:
        """Annotates what passes between layers `[B, S, M]`, and through experts `[E, X, M]`."""

        def between(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return self.flow(inputs[0], "batch", None, "activation"), *inputs[1:]

        def in_slots(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            return (self.flow(inputs[0], "experts", None, "activation"),)

        def served(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            return self.flow(output, "experts", None, "activation")

        for module in [*model.layers, model.norm]:
            module.register_forward_pre_hook(between)
        for module in model.modules():
            if isinstance(module, Experts):
                module.register_forward_pre_hook(in_slots)
                module.register_forward_hook(served)

    def spread(self, model: Glam) -> None:
        self.weights(model)
        self.activations(model)

    def state_axes(self, name: str, value: Tensor) -> tuple[str | None, ...]:
        """Mesh axes of optimizer state of the weight `name`: those of the weight, None where the
        state has size 1."""
        axes = partition(name.rpartition("_")[2], self.hardware)
        if value.ndim != len(axes):
            return (None,) * value.ndim
        return tuple(a if n > 1 else None for a, n in zip(axes, value.shape, strict=True))


def whole(tensor: Tensor) -> Tensor:
    """A copy on the CPU, joined from its shards: `cpu()` would compile a program for each."""
    import torch_xla.distributed.spmd as spmd

    sharded = spmd.wrap_if_sharded(tensor.detach())
    if not isinstance(sharded, spmd.XLAShardedTensor):
        return tensor.detach().cpu() if tensor.device.type == "xla" else tensor.detach().clone()
    found = torch.empty(tensor.shape, dtype=tensor.dtype)
    for shard in sharded.local_shards:
        if shard.replica_id == 0:
            # Without padding: the mesh divides what it splits.
            found[... if shard.indices is Ellipsis else tuple(shard.indices)] = shard.data
    return found


class XlaAccelerator(PlainAccelerator):
    """The mesh as one device; Lightning's own refuses XLA's CPU devices."""

    device = "xla"


class XlaStrategy(SingleDeviceStrategy):
    """Lightning's view of the mesh: one device with annotated tensors."""

    def __init__(self, sharding: Sharding, checkpoint_io: CheckpointIO) -> None:
        import torch_xla

        self._xla, self.sharding = torch_xla, sharding
        super().__init__(torch_xla.device(), XlaAccelerator(), checkpoint_io)

    def model_to_device(self) -> None:
        super().model_to_device()
        assert isinstance(self.model, TracedModule)
        self.sharding.spread(self.model.model)

    def setup_optimizers(self, trainer: Trainer) -> None:
        super().setup_optimizers(trainer)
        self._spread_state()

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(state)
        self._spread_state()

    def _spread_state(self) -> None:
        """Move the state of every weight to the devices, split as the weight is."""
        assert isinstance(self.model, TracedModule)
        names = {parameter: name for name, parameter in self.model.model.named_parameters()}
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    values = optimizer.state[parameter].items()
                    optimizer.state[parameter] = {
                        key: self._spread(names[parameter], value) for key, value in values
                    }

    def _spread(self, name: str, value: Tensor | int) -> Tensor:
        tensor = torch.as_tensor(value, dtype=torch.float32).to(self.root_device)
        return self.sharding.mark(tensor, self.sharding.state_axes(name, tensor))

    def batch_to_device(
        self, batch: StepBatch, device: torch.device | None = None, dataloader_idx: int = 0
    ) -> StepBatch:
        axes = (self.sharding.hardware.rules.get("batch"), None)
        return StepBatch(*(self.sharding.mark(part.to(self.root_device), axes) for part in batch))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        assert isinstance(self.model, TracedModule)
        self._xla.manual_seed(self.model.seed_of_step)

    def teardown(self) -> None:
        """The model stays on its devices, where it is evaluated."""


class Steps(Callback):
    """Ends every step's graph, and counts compilations: after the first steps there are none."""

    def __init__(self) -> None:
        self.compiled: list[int] = []  # in all, after each step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        import torch_xla
        import torch_xla.debug.metrics as metrics

        torch_xla.sync()
        timed = metrics.metric_data("CompileTime")
        self.compiled.append(timed[0] if timed else 0)


class XlaEngine(OneProcess):
    """See `glam.training.engine.Engine`."""

    module = TracedModule

    def __init__(self, config: RunConfig) -> None:
        check_divides(config)
        start(config.hardware)
        self.backend = traced_backend(config)
        self.sharding, self.steps = Sharding(config.hardware), Steps()

    def callbacks(self) -> list[Callback]:
        return [self.steps]

    def checkpoints(self, provenance: dict[str, Any]) -> ShardedCheckpointIO:
        return ShardedCheckpointIO(provenance, self.processes, whole)

    def trainer_arguments(self, checkpoints: CheckpointIO) -> dict[str, Any]:
        return {"strategy": XlaStrategy(self.sharding, checkpoints), **self.plugins()}

    def place(self, model: Glam) -> None:
        if next(model.parameters()).device.type != "xla":
            model.to("xla")
            self.sharding.spread(model)
