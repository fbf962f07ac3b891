# torch_xla and jax live in an environment of their own (make xla) and ship few types.
# pyright: basic, reportMissingImports=false, reportPrivateImportUsage=false
"""The training step of glam.engines.xla as StableHLO, by torch_xla: traced with tensors that hold
nothing. torch_xla has no way to hand a graph to a compiler, so it is taken out by functions that
are not public (requirements-xla.txt pins them).
"""

import os
from typing import Any

import torch
from torch import Tensor, nn

from glam.config import RunConfig
from glam.config.layout import partition
from glam.engines.xla import Sharding, traced_backend
from glam.machine.energy_by_phase import EnergyByPhase
from glam.model import Glam
from glam.planning.libtpu import SOURCES, Asked, versions
from glam.planning.stablehlo import Annotator, lay_out
from glam.training.module import StepBatch
from glam.training.traced import LOSSES_KEPT, TracedModule
from glam.training.train_state import RunningMeans, TrainState


def asked(config: RunConfig) -> Asked:
    """The step of a configuration, for the compiler."""
    _start()
    traced = _Traced(config)
    return Asked(
        program=_annotated(traced),
        weights=[traced.name(argument) for argument in traced.arguments],
        versions=versions("torch_xla", "torch"),
    )


def _start() -> None:
    """torch_xla's runtime, with one virtual device: autograd counts those that there are, and a
    thousand are too many for it."""
    os.environ.update(PJRT_DEVICE="CPU", CPU_NUM_DEVICES="1")
    import torch_xla.runtime as runtime

    if not runtime.is_spmd():
        runtime.use_spmd()


class _Traced:
    """The graph of one step, and how its arguments are split."""

    def __init__(self, config: RunConfig) -> None:
        import torch_xla
        import torch_xla.runtime as runtime

        self.config, self._library = config, torch_xla._XLAC
        # The mesh is of the slice's devices, of which this process has none.
        runtime.global_runtime_device_count = lambda: config.hardware.devices
        self.sharding = Sharding(config.hardware, described=True)
        self._axes: dict[int, tuple[str | None, ...]] = {}  # by id of an argument
        self._names: dict[int, str] = {}  # of weights, likewise
        module, batch = self._module(), self._batch()
        optimizer = module.configure_optimizers(self._placeholder)
        sums = module.train_state.means.sums
        sums.update({name: self._placeholder(value) for name, value in sums.items()})
        module.counts = self._placeholder(torch.empty(2, device="meta"))
        module.recent = self._placeholder(torch.empty(LOSSES_KEPT, device="meta"))
        before: dict[str, int] = {}

        def learn() -> None:
            module.training_step(batch, 0).backward()
            # Not before: a loop over layers gives the weights other ids.
            self._note_axes(module.model, optimizer, batch)
            values = module.changed(optimizer)
            before.update({name: self._id(value) for name, value in values.items()})

        module.optimizer_step(0, 0, optimizer, learn)
        after = module.changed(optimizer)
        outputs = [*after.values(), module.counts, module.recent]
        self.arguments = self._library._get_tensors_xla_device_data_node(outputs)[0]
        self.aliases = {before[name]: index for index, name in enumerate(after)}
        self.proto: bytes = self._library._get_xla_tensors_hlo_proto(outputs)
        self.num_outputs = len(outputs)

    def axes(self, argument: int) -> tuple[str | None, ...] | None:
        """None: whole on every device."""
        return self._axes.get(argument)

    def name(self, argument: int) -> str | None:
        """Of the weight that is this argument."""
        return self._names.get(argument)

    def _note_axes(self, model: Glam, optimizer: torch.optim.Optimizer, batch: StepBatch) -> None:
        for name, weight in model.named_parameters():
            axes = partition(name.rpartition("_")[2], self.config.hardware)
            self._axes[self._id(weight)] = axes
            self._names[self._id(weight)] = name
            for value in optimizer.state.get(weight, {}).values():
                self._axes[self._id(value)] = self.sharding.state_axes(name, value)
        for part in batch:
            self._axes[self._id(part)] = (self.config.hardware.rules.get("batch"), None)

    def _module(self) -> TracedModule:
        config = self.config
        dtype = torch.bfloat16 if config.hardware.precision == "bfloat16" else torch.float32
        with torch.device("meta"):
            model = Glam(config.model_as_built, dtype=dtype, backend=traced_backend(config))
        for owner in model.modules():
            for name, parameter in list(owner.named_parameters(recurse=False)):
                empty, learns = self._placeholder(parameter), parameter.requires_grad
                setattr(owner, name, nn.Parameter(empty, requires_grad=learns))
        self.sharding.activations(model)
        load_shape = (config.model.num_moe_layers, config.model.num_experts)
        means = RunningMeans(SOURCES, load_shape, "xla")
        train_state = TrainState(means, config.training, EnergyByPhase(None))
        module = TracedModule(model, config, train_state)
        return module.to("xla")

    def _placeholder(self, like: Tensor, device: Any = None) -> Tensor:
        import torch_xla.core.xla_builder as builder

        return builder.create_placeholder_tensor(tuple(like.shape), like.dtype)

    def _batch(self) -> StepBatch:
        training = self.config.training
        shape = (training.batch_size, training.sequence_length)
        with torch.device("meta"):
            parts = [torch.zeros(shape, dtype=torch.int64) for _ in StepBatch._fields]
        return StepBatch(*(self._placeholder(part) for part in parts))

    def _id(self, tensor: Tensor) -> int:
        return self._library._get_tensors_xla_device_data_node([tensor.detach()])[0][0]


def _annotated(traced: _Traced) -> bytes:
    """The graph as StableHLO whose arguments and results say how they are split, and which result
    takes the place of which argument."""
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jax._src.lib.mlir import ir

    hardware = traced.config.hardware
    arguments = [traced.axes(argument) for argument in traced.arguments]
    places = {
        number: traced.aliases[argument]
        for number, argument in enumerate(traced.arguments)
        if argument in traced.aliases
    }
    results: list[tuple[str | None, ...] | None] = [None] * traced.num_outputs
    for number, place in places.items():
        results[place] = arguments[number]
    with mlir.make_ir_context(), ir.Location.unknown():
        computation = xla_client.XlaComputation(traced.proto)
        module = ir.Module.parse(xla_client._xla.mlir.xla_computation_to_mlir_module(computation))
        lay_out(module, Annotator(hardware.mesh), arguments, results, places)
        return mlir.module_to_bytecode(module)
