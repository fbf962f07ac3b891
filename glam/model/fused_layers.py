"""Layers with fused attention, through `torch.compile`: for a GPU.

One program serves all layers of a kind: weights are its inputs, and no shape in it depends on the
routing. It is of training alone, where every batch has one shape. Without gradients, as in an
evaluation, layers run operator by operator: shapes vary there, and a program that is compiled does
not see the hooks with which an evaluation looks at routers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glam.model.attention.flex import document_blocks
from glam.model.layer_runner import LayersOutput, run_layers, run_masked
from glam.model.rematerialize import called, rematerialized


class FusedLayers:
    """See LayerRunner. Attention is a fused kernel, compiled by itself or, where `whole`, with all
    of its layer. `backend` is torch.compile's.

    Raises torch's error where a layer cannot be compiled in one piece: a part that silently runs
    operator by operator would cost what compiling was to gain.
    """

    def __init__(
        self, *, whole: bool, rematerialize: bool = False, backend: Any = "inductor"
    ) -> None:
        compile_ = cast(Any, torch).compile  # which is half typed
        form = {"fullgraph": True, "dynamic": False, "backend": backend}
        layer: Callable[..., Any] = compile_(_layer, **form) if whole else _layer
        self._call = partial(rematerialized if rematerialize else called, layer)

    def __call__(
        self,
        layers: nn.ModuleList,
        x: Float[Tensor, "B S M"],
        segments: Int[Tensor, "B S"] | None,
    ) -> LayersOutput:
        if not torch.is_grad_enabled():
            return run_layers(layers, x, segments, called)
        if segments is None:
            segments = torch.zeros(x.shape[:2], dtype=torch.int64, device=x.device)
        return run_masked(layers, x, document_blocks(segments), self._call)


def _layer(layer: nn.Module, x: Tensor, mask: Any) -> Any:
    return layer(x, mask)
