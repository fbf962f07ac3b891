"""Runs the layers of a model one after another, each as it is or rematerialized."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from glam.model.attention.attention import Mask, document_mask
from glam.model.moe.moe import MoEOutput

# The output of the last layer [B, S, M], and the statistics of every MoE layer.
LayersOutput = tuple[Tensor, list[MoEOutput]]
# `(layers, x [B, S, M], segments [B, S] or None) -> LayersOutput`
LayerRunner = Callable[[nn.ModuleList, Tensor, Tensor | None], LayersOutput]


def run_layers(
    layers: nn.ModuleList,
    x: Float[Tensor, "B S M"],
    segments: Int[Tensor, "B S"] | None,
    call: Callable[..., Any],
) -> LayersOutput:
    """Runs every layer by `call(layer, x, mask)`, which returns what the layer returns."""
    mask = None if segments is None else document_mask(segments, x.dtype)
    return run_masked(layers, x, mask, call)


def run_masked(
    layers: nn.ModuleList, x: Float[Tensor, "B S M"], mask: Mask, call: Callable[..., Any]
) -> LayersOutput:
    """The same with the mask that attention takes."""
    statistics = list[MoEOutput]()
    for layer in layers:
        x, moe_output = call(layer, x, mask)
        if moe_output is not None:
            statistics.append(moe_output)
    return x, statistics
