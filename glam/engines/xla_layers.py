# torch_xla lives in an environment of its own (make xla) and ships no types.
# pyright: basic, reportMissingImports=false
"""Layer runners for XLA: one layer after another, rematerialized where asked for, or a loop, which
the compiler sees once however many layers there are."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from glam.config import RunConfig
from glam.model.layer_runner import LayerRunner, run_layers
from glam.model.moe.moe import MoEOutput
from glam.model.rematerialize import called


def layer_runner(config: RunConfig) -> LayerRunner:
    """The layer runner of a configuration: a loop (`hardware.scan`) or layer by layer."""
    again = config.training.rematerialize
    if config.hardware.scan:
        return partial(_scanned, period=config.model.moe_every, again=again)
    return partial(run_layers, call=_rematerialized if again else called)


class _Flat(nn.Module):
    """A layer whose output is a flat tuple."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        x, made = self.layer(x, mask)
        return (x,) if made is None else (x, *made[1:])


def _rematerialized(layer: nn.Module, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Any]:
    """A layer whose activations are computed again in the backward pass. XLA would merge the second
    computation with the first, so torch_xla's checkpoint puts a barrier between."""
    if not torch.is_grad_enabled():
        return layer(x, mask)
    from torch_xla.utils.checkpoint import checkpoint

    found = checkpoint(_Flat(layer).forward, x, mask)
    return found[0], MoEOutput(x.new_empty(0), *found[1:]) if len(found) > 1 else None


def _scanned(
    layers: nn.ModuleList, x: Tensor, segments: Tensor | None, period: int, again: bool
) -> tuple[Tensor, list[MoEOutput]]:
    """Blocks of `period` layers, as one loop over their stacked weights."""
    from functorch.compile import default_partition, min_cut_rematerialization_partition
    from torch._functorch import config as functorch
    from torch_xla.experimental.scan import scan

    body, given = stacked_blocks(layers, period, x.dtype)

    def step(carry: Any, given: Any) -> Any:
        x, segments = carry
        x, outputs = torch.func.functional_call(body, given, (x, segments))
        return (x, segments), outputs

    # The carry has a gradient, so it has to be of floats.
    if segments is None:
        segments = torch.zeros(x.shape[:2], device=x.device)
    segments = segments.to(torch.float32)
    partition = min_cut_rematerialization_partition if again else default_partition
    with functorch.patch(activation_memory_budget=0.0):
        (x, _), outputs = scan(step, (x, segments), given, partition_fn=partition)
    return x, [MoEOutput(x.new_empty(0), row[0], row[1:-1], row[-1]) for row in outputs.unbind()]


def stacked_blocks(
    layers: nn.ModuleList, period: int, dtype: torch.dtype
) -> tuple["LoopBody", dict[str, Tensor]]:
    """The body of a loop over blocks of `period` layers, and the weights of all blocks by their
    names in the body, stacked in a new first axis."""
    blocks = [nn.ModuleList(layers[i : i + period]) for i in range(0, len(layers), period)]
    names = [name for name, _ in blocks[0].named_parameters()]
    weights = [dict(block.named_parameters()) for block in blocks]
    stacked = {name: torch.stack([each[name] for each in weights]) for name in names}
    # Cast before the loop: inside, each iteration's narrow copy would be kept for the backward
    # loop, beside the stack that it is a part of.
    stacked.update({n: stacked[n].to(dtype) for n in names if _is_of_a_product(n)})
    return LoopBody(blocks[0]), {f"layers.{name}": value for name, value in stacked.items()}


def _is_of_a_product(name: str) -> bool:
    """Whether the layer casts the weight to the type of its activations; the router's stays
    float32."""
    return name.rpartition(".")[2].startswith("w_") and ".router." not in name


class LoopBody(nn.Module):
    """A block of layers that returns the statistics of its one MoE layer as one row. Outputs of the
    loop need a gradient, which a balance loss has; where there is none, that of x is 0."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        x, outputs = run_layers(self.layers, x, segments.to(torch.int64), called)
        (made,) = outputs
        loss = made.balance_loss
        if not loss.requires_grad:
            loss = loss + 0 * x.float().mean()
        return x, torch.cat([loss[None], made.load, made.dropped[None]])


@torch.library.custom_op("glam::einsum", mutates_args=())
def einsum(equation: str, a: Tensor, b: Tensor) -> Tensor:
    """`torch.einsum` of two tensors as one product of all their axes. Torch's own merges axes
    first, and what is split along two of them can then not stay split."""
    return torch.einsum(equation, a, b).clone()


@einsum.register_fake
def _(equation: str, a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum(equation, a, b)


def _keep(ctx: Any, inputs: tuple[str, Tensor, Tensor], output: Tensor) -> None:
    ctx.equation = inputs[0]
    ctx.save_for_backward(*inputs[1:])


def _gradients(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
    """Each axis of an operand is one of the other's or of the product's."""
    operands, of_product = ctx.equation.split("->")
    of_a, of_b = operands.split(",")
    a, b = ctx.saved_tensors
    d_a = einsum(f"{of_product},{of_b}->{of_a}", grad, b)
    return None, d_a, einsum(f"{of_a},{of_product}->{of_b}", a, grad)


einsum.register_autograd(_gradients, setup_context=_keep)
