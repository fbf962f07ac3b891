# torch_xla and jax live in an environment of their own (make xla) and ship few types.
# pyright: basic, reportMissingImports=false
"""The TPU's own compiler, without a TPU: the training step of glam.engines.xla, traced with
tensors that hold nothing, and compiled for a described slice.

libtpu compiles for a topology that it is told. torch_xla has no way to hand it a graph, so this
module takes the graph out of torch_xla by functions that are not public, and hands it over through
jaxlib: both are pinned (requirements-xla.txt). Nothing is run, so nothing here says how fast a step
is.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glam.config import RunConfig
from glam.config.layout import partition
from glam.engines.xla import Sharding, traced_backend
from glam.errors import UserError
from glam.machine.energy_by_phase import EnergyByPhase
from glam.model import Glam
from glam.planning.hlo import Collective, Program, Sent
from glam.planning.plan import too_large
from glam.planning.sharded import step_flops
from glam.training.module import StepBatch
from glam.training.traced import LOSSES_KEPT, TracedModule
from glam.training.train_state import RunningMeans, TrainState

SOURCES = 10  # of the text, whose losses are kept apart
PREFIXES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class TooLargeError(Exception):
    """The compiler refused the program: it needs more bytes than a device has."""

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(f"{needed} of {available} bytes")
        self.needed, self.available = needed, available


def compiled(config: RunConfig) -> dict[str, Any]:
    """What the compiler says of one device: bytes, FLOPs and collectives of a step. A program that
    does not fit has `fits` False and in `refusal` a line that says what would.

    In a loop over layers the compiler counts the FLOPs of one turn: `flops_comparable` is False.
    """
    _describe_only()
    traced = _Traced(config)
    began, began_cpu = time.monotonic(), time.process_time()
    try:
        program = _compile(traced)
    except TooLargeError as error:
        return {
            "seconds": time.monotonic() - began,
            "cpu_seconds": time.process_time() - began_cpu,
            "fits": False,
            "refusal": too_large(config, error.needed, error.available),
            "total_bytes": error.needed,
        }
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - began_cpu
    held, costs = program.get_compiled_memory_stats(), program.cost_analysis()
    costs = costs[0] if isinstance(costs, list) else costs
    text = "\n".join(module.to_string() for module in program.hlo_modules())
    sent = Program(text).collectives(config.hardware.mesh)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "fits": True,
        "refusal": None,
        "argument_bytes": held.argument_size_in_bytes,
        "temporary_bytes": held.temp_size_in_bytes,
        "total_bytes": held.argument_size_in_bytes + held.temp_size_in_bytes,
        "flops": costs["flops"],
        "flops_by_hand": step_flops(config),
        "flops_comparable": not config.hardware.scan,
        "collectives": _added(sent, lambda one: one.kind),
        "gathers": _added(sent, lambda one: _gather(one, traced)),
        "expert_weights_moved": sum(
            each.number for one, each in sent.items() if "experts" in traced.parts(one.arguments)
        ),
    }


def _added(
    sent: Mapping[Collective, Sent], label: Callable[[Collective], str | None]
) -> dict[str, dict[str, int]]:
    """By label, the largest first; without those that have none."""
    found = dict[str, dict[str, int]]()
    for one, each in sorted(sent.items(), key=lambda item: -item[1].bytes):
        if (name := label(one)) is not None:
            row = found.setdefault(name, {"count": 0, "bytes": 0})
            row["count"] += each.number
            row["bytes"] += each.bytes
    return found


def _gather(one: Collective, traced: "_Traced") -> str | None:
    """What an all-gather is of, and over what."""
    if one.kind != "all-gather":
        return None
    parts = traced.parts(one.arguments)
    what = "activations"
    if parts:
        what = "expert weights" if "experts" in parts else "other weights"
    return f"{what} over {one.over}"


def _describe_only() -> None:
    """Neither libtpu nor jax is to look for a TPU. One virtual device: autograd counts those that
    there are, and a thousand are too many for it."""
    os.environ.update(
        PJRT_DEVICE="CPU",
        CPU_NUM_DEVICES="1",
        JAX_PLATFORMS="cpu",
        TPU_SKIP_MDS_QUERY="1",
        TPU_WORKER_HOSTNAMES="localhost",
        ALLOW_MULTIPLE_LIBTPU_LOAD="1",
        TPU_HOST_BOUNDS="1,1,1",  # else libtpu complains that it finds none
    )
    os.environ.pop("TPU_ACCELERATOR_TYPE", None)  # with it libtpu aborts
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

    def parts(self, numbers: frozenset[int]) -> set[str]:
        """Of the model, whose weights are the arguments of these numbers."""
        names = (self._names.get(self.arguments[number], "") for number in numbers)
        return {"experts" if ".experts." in name else "other" for name in names if name}

    def _note_axes(self, model: Glam, optimizer: torch.optim.Optimizer, batch: StepBatch) -> None:
        for name, weight in model.named_parameters():
            axes = partition(name.rpartition("_")[2], self.config.hardware)
            self._axes[self._id(weight)] = axes
            self._names[self._id(weight)] = name
            for value in optimizer.state[weight].values():
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
                setattr(owner, name, nn.Parameter(self._placeholder(parameter)))
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


def _compile(traced: _Traced) -> Any:
    from jax._src import compiler
    from jax._src.lib import xla_client
    from jax.experimental import topologies

    hardware = traced.config.hardware
    assert hardware.topology is not None
    megacore = {"chip_config_name": "megacore"} if hardware.topology.startswith("v4") else {}
    described = topologies.get_topology_desc(
        platform="tpu", topology_name=hardware.topology, **megacore
    )
    devices = described.devices
    if len(devices) != hardware.devices:
        raise UserError(
            f"hardware.topology={hardware.topology} is of {len(devices)} devices for its compiler "
            f"and hardware.mesh of {hardware.devices}; make them equal"
        )
    options = compiler.get_compile_options(
        num_replicas=1,
        num_partitions=len(devices),
        device_assignment=np.arange(len(devices)).reshape(1, -1),
        use_spmd_partitioning=True,
        # Windowed products would be counted short.
        env_options_overrides={"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"},
    )
    options.executable_build_options.use_shardy_partitioner = False
    try:
        return devices[0].client.compile(
            _annotated(traced),
            executable_devices=xla_client.DeviceList(tuple(devices)),
            compile_options=options,
        )
    except Exception as error:
        if (found := too_large_for(error)) is None:
            raise
        raise found from error


def too_large_for(error: Exception) -> TooLargeError | None:
    """What the compiler's error says of bytes; None where it is about something else."""
    said = re.search(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm", str(error))
    if said is None:
        return None
    return TooLargeError(*(int(float(said[n]) * PREFIXES[said[n + 1]]) for n in (1, 3)))


def _annotated(traced: _Traced) -> bytes:
    """The graph as StableHLO whose arguments and results say how they are split, and which result
    takes the place of which argument."""
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jax._src.lib.mlir import ir

    sharding = _sharding_attribute(traced)
    with mlir.make_ir_context(), ir.Location.unknown():
        computation = xla_client.XlaComputation(traced.proto)
        module = ir.Module.parse(xla_client._xla.mlir.xla_computation_to_mlir_module(computation))
        int32 = ir.IntegerType.get_signless(32)
        results = [{"mhlo.sharding": sharding(None)} for _ in range(traced.num_outputs)]
        arguments: list[dict[str, Any]] = []
        for argument in traced.arguments:
            attributes = {"mhlo.sharding": sharding(traced.axes(argument))}
            if argument in traced.aliases:
                place = traced.aliases[argument]
                attributes["tf.aliasing_output"] = ir.IntegerAttr.get(int32, place)
                results[place] = {"mhlo.sharding": attributes["mhlo.sharding"]}
            arguments.append(attributes)
        main = next(
            operation
            for operation in module.body.operations
            if operation.operation.name == "func.func" and operation.name.value == "main"
        )
        for name, attributes in (("arg_attrs", arguments), ("res_attrs", results)):
            main.attributes[name] = ir.ArrayAttr.get([ir.DictAttr.get(a) for a in attributes])
        whole = module.operation.attributes
        whole["mhlo.num_partitions"] = ir.IntegerAttr.get(int32, traced.config.hardware.devices)
        whole["mhlo.num_replicas"] = ir.IntegerAttr.get(int32, 1)
        return mlir.module_to_bytecode(module)


def _sharding_attribute(traced: _Traced) -> Callable[[tuple[str | None, ...] | None], Any]:
    from jax._src.lib.mlir import ir
    from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

    sizes = traced.config.hardware.mesh
    mesh = AbstractMesh(tuple(sizes.values()), tuple(sizes))

    def attribute(axes: tuple[str | None, ...] | None) -> Any:
        if axes is None or not any(axes):
            return ir.StringAttr.get("{replicated}")
        named = NamedSharding(mesh, PartitionSpec(*axes))
        return ir.StringAttr.get(str(named._to_xla_hlo_sharding(len(axes))))

    return attribute
