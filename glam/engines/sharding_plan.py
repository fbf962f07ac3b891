# torch.distributed has half its types.
# pyright: basic
"""The layout table as placements on a mesh of processes.

The axis that splits the batch comes first: processes along it have rows of their own. What it
splits of a weight is gathered for the product (FSDP2), but for experts, which stay in place. A
second axis splits heads, hidden units and vocabulary (`tensor_parallel`); processes along it have
the same rows.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor

from glam.config import HardwareConfig, ModelConfig, RunConfig
from glam.config.layout import loss_pieces, partition
from glam.engines.expert_parallel import ExpertParallel, SeatExchange, local, mean_of_all
from glam.engines.tensor_parallel import (
    SplitExperts,
    SplitVocabulary,
    WidthSplit,
    by_parts,
    split_layers,
    use_local_weights,
)
from glam.model import Glam
from glam.model.backend import Backend
from glam.model.layer_runner import run_layers
from glam.model.loss import LossSplit
from glam.model.moe.dispatch import Dispatcher, dispatcher
from glam.model.rematerialize import called, rematerialized
from glam.model.saved_tensors import SavedTensors, check_shape, chunk
from glam.model.vocabulary import IN_ONE_PIECE, Vocabulary
from glam.training.checkpoint import PREFIX


class ShardingPlan:
    """See above. `rows` is the axis of the batch, `model` the second one, None where there is
    none; meshes of one axis each."""

    def __init__(self, hardware: HardwareConfig, device: str) -> None:
        self.hardware = hardware
        self.batch_axis = hardware.rules["batch"]
        others = {a: n for a, n in hardware.mesh.items() if n > 1 and a != self.batch_axis}
        self.model_axis = next(iter(others), None)
        assert self.batch_axis is not None
        names, shape = (
            (self.batch_axis, *others),
            (hardware.mesh[self.batch_axis], *others.values()),
        )
        self.mesh = init_device_mesh(device, shape, mesh_dim_names=names)
        if others:
            self.mesh._flatten()  # a sum over both axes is then one call, and the same in all
        self.rows: DeviceMesh = self.mesh[self.batch_axis]
        self.model: DeviceMesh | None = self.mesh[self.model_axis] if self.model_axis else None

    def split_dim(self, name: str, axis: str | None) -> int | None:
        """The dimension of the weight `name` that a mesh axis splits; None where it splits none."""
        axes = partition(name.rpartition("_")[2], self.hardware)
        if axis is None or axis not in axes or self.hardware.mesh[axis] == 1:
            return None
        return axes.index(axis)

    def is_expert_parallel(self, name: str) -> bool:
        """Whether the weight is of experts that stay in the processes they are split among."""
        is_of_experts = name.rpartition("_")[2].startswith("E")
        return is_of_experts and self.split_dim(name, self.batch_axis) == 0

    def is_gathered(self, name: str) -> bool:
        """Whether the weight is split along the batch's axis and gathered for its products."""
        is_split = self.split_dim(name, self.batch_axis) is not None
        return is_split and not self.is_expert_parallel(name)

    def is_summed(self, name: str) -> bool:
        """Whether each process has the gradient of its own rows alone after the backward pass."""
        return self.split_dim(name, self.batch_axis) is None

    def backend(self, config: RunConfig) -> Backend:
        """What several processes change in a model."""
        again = config.training.rematerialize
        run = None
        if self.model is not None and self.hardware.rules.get("activation") == self.model_axis:
            group = self.model.get_group()
            call = WidthSplit(rematerialized if again else called, group)
            run = by_parts(partial(run_layers, call=call), group)
        kind = config.model_as_built.dispatcher_config
        is_exchanged = self.is_expert_parallel("w_in_EMH")
        return Backend(
            run_layers=run,
            mean_over_tokens=mean_of_all(self.rows.get_group()),
            dispatcher=self._dispatcher,
            loss_split=LossSplit(pieces=loss_pieces(config)),
            vocabulary=self._vocabulary(),
            one_shape=self.hardware.has_one_shape or (kind.static_shapes and is_exchanged),
        )

    def _dispatcher(self, model: ModelConfig) -> Dispatcher:
        chosen = dispatcher(model)
        if self.is_expert_parallel("w_in_EMH"):
            group = self.rows.get_group()
            is_even = model.dispatcher_config.static_shapes
            chosen = SeatExchange(chosen, group) if is_even else ExpertParallel(group)
        if self.model is None or self.split_dim("w_in_EMH", self.model_axis) is None:
            return chosen
        return SplitExperts(chosen, self.model.get_group())

    def _vocabulary(self) -> Vocabulary:
        if self.model is None or self.split_dim("w_VM", self.model_axis) is None:
            return IN_ONE_PIECE
        return SplitVocabulary(self.model.get_group())

    def lay_out(self, model: Glam) -> None:
        """Make every weight that the table splits a DTensor. `model` is on the meta device."""
        dims = dict[nn.Parameter, int]()  # of those that FSDP is to split
        for prefix, module in list(model.named_modules()):
            for own, parameter in list(module.named_parameters(recurse=False)):
                name = f"{prefix}.{own}"
                if (made := self._in_place(name, parameter.data)) is not None:
                    parameter = nn.Parameter(made)
                    setattr(module, own, parameter)
                if self.is_gathered(name):
                    dim = self.split_dim(name, self.batch_axis)
                    assert dim is not None
                    dims[parameter] = dim
        stay = {p for p in model.parameters() if p not in dims}
        for part in [*model.layers, model]:
            if any(p in dims for p in part.parameters()):
                place = partial(_shard_along, dims)
                fully_shard(part, mesh=self.rows, shard_placement_fn=place, ignored_params=stay)
        if dims:
            register_fsdp_forward_method(model, "loss")
        use_local_weights(model)
        if self.model is not None:
            names = [name for name, _ in model.named_parameters()]
            is_split = {n: self.split_dim(n, self.model_axis) is not None for n in names}
            split_layers(model, self.model.get_group(), is_split)

    def _in_place(self, name: str, whole: Tensor) -> DTensor | None:
        """The weight as far as it is split without FSDP; None where it is not."""
        rows = self.split_dim(name, self.batch_axis) if self.is_expert_parallel(name) else None
        model = self.split_dim(name, self.model_axis)
        if rows is not None and model is not None:
            return spread(whole, self.mesh, [Shard(rows), Shard(model)])
        if rows is not None:
            return spread(whole, self.rows, [Shard(rows)])
        if model is not None and self.model is not None:
            return spread(whole, self.model, [Shard(model)])
        return None

    def copies(self, tensor: Tensor) -> int:
        """How many processes hold each number of a tensor that is placed as its weight is."""
        if not isinstance(tensor, DTensor):
            return dist.get_world_size()
        mesh = tensor.device_mesh
        parts = [mesh.size(n) for n, p in enumerate(tensor.placements) if isinstance(p, Shard)]
        return dist.get_world_size() // math.prod(parts)


def _shard_along(dims: dict[nn.Parameter, int], parameter: nn.Parameter) -> Shard:
    return Shard(dims[parameter])


def spread(whole: Tensor, mesh: DeviceMesh, placements: Sequence[Placement]) -> DTensor:
    """The DTensor of a tensor that every process has in full."""
    return distribute_tensor(whole, mesh, placements, src_data_rank=None)


def placements_like(weight: DTensor, shape: Sequence[int]) -> list[Placement] | None:
    """Of optimizer state of a weight; None for a plain tensor. State of size 1 along a dimension
    is not split there, and state of other rank nowhere."""
    if len(shape) != weight.ndim:
        return None
    return [
        one if isinstance(one, Shard) and shape[one.dim] > 1 else Replicate()
        for one in weight.placements
    ]


def state_like(weight: Tensor, whole: Tensor) -> Tensor:
    """Optimizer state of a weight, split as the weight is."""
    whole = whole.to(weight.device)
    if not isinstance(weight, DTensor):
        return whole
    placements = placements_like(weight, whole.shape)
    return whole if placements is None else spread(whole, weight.device_mesh, placements)


def read_state_like(weight: Tensor, saved: SavedTensors, key: str) -> Tensor:
    """As `state_like`, of the tensor `key` of a checkpoint: only this process's shard is read."""
    shape = saved.shape(key)
    placements = placements_like(weight, shape) if isinstance(weight, DTensor) else None
    if placements is None:
        return saved[key].to(weight.device)
    assert isinstance(weight, DTensor)
    mesh = weight.device_mesh
    here = saved.read(key, _ranges(mesh, placements, shape)).to(weight.device)
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(
        here, mesh, placements, run_check=False, shape=torch.Size(shape), stride=stride
    )


def _ranges(
    mesh: DeviceMesh, placements: Sequence[Placement], shape: Sequence[int]
) -> dict[int, range]:
    """This process's part of a tensor, by dimension."""
    return {
        one.dim: chunk(shape[one.dim], mesh.get_local_rank(axis), mesh.size(axis))
        for axis, one in enumerate(placements)
        if isinstance(one, Shard)
    }


@torch.no_grad()
def fill(parameter: Tensor, whole: Tensor) -> None:
    """Copy this process's shard of `whole` into `parameter`."""
    if isinstance(parameter, DTensor):
        mine = _ranges(parameter.device_mesh, parameter.placements, whole.shape)
        for dim, part in mine.items():
            whole = whole.narrow(dim, part.start, len(part))
    local(parameter).copy_(whole)


@torch.no_grad()
def fill_all(model: Glam, weights: SavedTensors) -> None:
    """Fill every parameter from a checkpoint, by name. Of a split one this process's shard alone is
    read."""
    for name, parameter in model.named_parameters():
        check_shape(weights, PREFIX + name, parameter)
        mine = dict[int, range]()
        if isinstance(parameter, DTensor):
            mine = _ranges(parameter.device_mesh, parameter.placements, parameter.shape)
        local(parameter).copy_(weights.read(PREFIX + name, mine))
