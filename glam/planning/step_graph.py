# torch's tracing ships few types.
# pyright: basic
"""The training step of a configuration as one graph of torch's operators: traced with tensors that
hold nothing, by torch alone, for a compiler that takes such a graph.

It is the step that the engines for compiled devices train with (`TracedModule`): forward and
backward pass, the optimizer, and the decision to skip. All that outlasts a step goes in and comes
out. What the layout table says of an activation is recorded as an operator, `glam::split`.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from glam.config import HardwareConfig, RunConfig
from glam.config.layout import loss_pieces, partition
from glam.engines.xla import Sharding
from glam.engines.xla_layers import einsum
from glam.machine.energy_by_phase import EnergyByPhase
from glam.model import Glam
from glam.model.backend import Backend
from glam.model.loss import LossSplit
from glam.planning.layer_loop import layer_runner
from glam.planning.libtpu import SOURCES
from glam.training.module import StepBatch
from glam.training.traced import LOSSES_KEPT, TracedModule
from glam.training.train_state import RunningMeans, TrainState

DEVICE = "meta"  # autograd knows it, as it would not know a device that is not here

# `(name, a tensor of that shape and type) -> the tensor that the step has in its place`
Place = Callable[[str, Tensor], Tensor]


@torch.library.custom_op("glam::split", mutates_args=())
def split(x: Tensor, axes: str) -> Tensor:
    """`x`, which is to lie split along these axes of the mesh, one of each dimension or none:
    `expert,,model`. Its gradient is split in the same way."""
    return x.clone()


@split.register_fake
def _(x: Tensor, axes: str) -> Tensor:
    return torch.empty_like(x)


def _keep(ctx: Any, inputs: tuple[Tensor, str], output: Tensor) -> None:
    ctx.axes = inputs[1]


split.register_autograd(
    lambda ctx, grad: (split(grad.contiguous(), ctx.axes), None), setup_context=_keep
)


class Recorded(Sharding):
    """The layout table, whose annotations of activations are recorded in a graph."""

    def __init__(self, hardware: HardwareConfig) -> None:
        self.hardware = hardware

    def flowing(self, tensor: Tensor, axes: tuple[str | None, ...]) -> Tensor:
        return split(tensor, ",".join(axis or "" for axis in axes))


class StepGraph(NamedTuple):
    """A step as a graph: its arguments in the order of `inputs`, its results in that of `outputs`.
    An output that is an input too takes its place."""

    graph: fx.GraphModule
    inputs: dict[str, Tensor]  # of the meta device
    outputs: list[str]
    axes: dict[str, tuple[str | None, ...]]  # of the mesh, that split an input


class _Module(TracedModule):
    """A `TracedModule` whose learning rate is an input of the graph."""

    given_rate: Tensor

    def rate(self) -> Tensor:
        return self.given_rate


class _Step:
    """A module, its optimizer and a batch, all of whose tensors `place` has given."""

    def __init__(self, config: RunConfig, place: Place) -> None:
        self.module = self._module(config, place)
        weights = self.module.model.named_parameters()
        names = [name for name, weight in weights if weight.requires_grad]
        self.optimizer = self.module.configure_optimizers()
        for name, state in zip(names, self.optimizer.state.values(), strict=True):
            state.update({key: place(f"state/{name}/{key}", v) for key, v in state.items()})
        self.names = names
        shape = (config.training.batch_size, config.training.sequence_length)
        empty = torch.empty(shape, dtype=torch.int64, device=DEVICE)
        self.batch = StepBatch(*(place(f"batch/{part}", empty) for part in StepBatch._fields))

    @staticmethod
    def _module(config: RunConfig, place: Place) -> _Module:
        narrow = config.hardware.precision == "bfloat16"
        dtype = torch.bfloat16 if narrow else torch.get_default_dtype()
        backend = Backend(
            run_layers=layer_runner(config),
            einsum=einsum,
            loss_split=LossSplit(config.hardware.shards("batch"), loss_pieces(config)),
        )
        with torch.device(DEVICE):
            model = Glam(config.model_as_built, dtype=dtype, backend=backend)
        for path, owner in model.named_modules():
            for name, parameter in list(owner.named_parameters(recurse=False)):
                whole = f"weight/{path}.{name}"
                made = _parameter(place(whole, parameter), parameter.requires_grad)
                setattr(owner, name, made)
        Recorded(config.hardware).activations(model)
        load_shape = (config.model.num_moe_layers, config.model.num_experts)
        means = RunningMeans(SOURCES, load_shape, DEVICE)
        means.sums = {name: place(f"mean/{name}", value) for name, value in means.sums.items()}
        state = TrainState(means, config.training, EnergyByPhase(None))
        module = _Module(model, config, state)
        module.counts = place("counts", torch.empty(2, device=DEVICE))
        module.recent = place("recent", torch.empty(LOSSES_KEPT, device=DEVICE))
        module.given_rate = place("rate", torch.empty((), device=DEVICE))
        return module

    def run(self) -> dict[str, Tensor]:
        """What the step leaves, by the names of what it was given."""
        module, optimizer = self.module, self.optimizer

        def learn() -> None:
            module.training_step(self.batch, 0).backward()

        module.optimizer_step(0, 0, optimizer, learn)
        assert module.counts is not None
        assert module.recent is not None
        found = {f"weight/{n}": p.detach() for n, p in module.model.named_parameters()}
        for name, state in zip(self.names, optimizer.state.values(), strict=True):
            found |= {f"state/{name}/{key}": value for key, value in state.items()}
        found |= {f"mean/{name}": value for name, value in module.train_state.means.sums.items()}
        return found | {"counts": module.counts, "recent": module.recent}


def _parameter(value: Tensor, requires_grad: bool) -> Tensor:
    """`value` itself as a parameter: of torch's class it would be another tensor, which the trace
    does not know."""
    value.requires_grad_(requires_grad)
    value._is_param = True
    return value


def step_graph(config: RunConfig) -> StepGraph:
    """The graph of a training step of this configuration."""
    inputs: dict[str, Tensor] = {}
    outputs: list[str] = []

    def note(name: str, like: Tensor) -> Tensor:
        inputs[name] = torch.empty(like.shape, dtype=like.dtype, device=DEVICE)
        return inputs[name].clone()

    _Step(config, note)

    def step(*given: Tensor) -> list[Tensor]:
        named = dict(zip(inputs, given, strict=True))
        found = _Step(config, lambda name, like: named[name].clone()).run()
        outputs[:] = list(found)
        return list(found.values())

    with _compiling():
        graph = make_fx(step)(*inputs.values())
    return StepGraph(graph, inputs, outputs, _axes(config, inputs))


@contextmanager
def _compiling() -> Generator[None]:
    """torch's optimizers refuse a device that they do not know, unless they are being compiled."""
    before = torch.compiler._is_compiling_flag
    torch.compiler._is_compiling_flag = True
    try:
        yield
    finally:
        torch.compiler._is_compiling_flag = before


def _axes(config: RunConfig, inputs: Mapping[str, Tensor]) -> dict[str, tuple[str | None, ...]]:
    """The layout table's, of the inputs that it splits."""
    hardware = config.hardware
    table, found = Recorded(hardware), dict[str, tuple[str | None, ...]]()
    for name, value in inputs.items():
        match name.split("/"):
            case "weight", weight:
                found[name] = partition(weight.rpartition("_")[2], hardware)
            case "state", weight, _:
                found[name] = table.state_axes(weight, value)
            case "batch", _:
                found[name] = (hardware.rules.get("batch"), None)
            case _:
                pass
    return found
