"""Experts whose gates are scaled, or that are left out: the correction of a bias that was found."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import cast

import torch

from glam.config import ModelConfig
from glam.errors import UserError
from glam.model.glam import Glam
from glam.model.moe.experts import Experts

Scales = Mapping[tuple[int, int], float]  # by layer and expert


def scale_experts(model: Glam, scales: Scales) -> Glam:
    """Multiply the gates of experts by a number each; 0 leaves an expert out, and other gates stay
    as they are. The number goes into the expert's output matrix, by which the gate is multiplied:
    so it holds wherever the weights go, in every kernel, decoder and export. Returns the model.

    Raises UserError for an expert that the model does not have.
    """
    check_scales(model.config, scales)
    with torch.no_grad():
        for (layer, expert), scale in scales.items():
            experts_of(model, layer).w_out_EHM[expert] *= scale
    return model


@contextmanager
def scaled_experts(model: Glam, scales: Scales) -> Generator[None]:
    """The same until the end of the block, and then as before, bit for bit."""
    check_scales(model.config, scales)
    kept = {one: experts_of(model, one[0]).w_out_EHM[one[1]].detach().clone() for one in scales}
    try:
        scale_experts(model, scales)
        yield
    finally:
        with torch.no_grad():
            for (layer, expert), weight in kept.items():
                experts_of(model, layer).w_out_EHM[expert] = weight


def experts_of(model: Glam, layer: int) -> Experts:
    """The experts of an MoE layer."""
    return cast(Experts, model.get_submodule(f"layers.{layer}.ffn.experts"))


def check_scales(config: ModelConfig, scales: Scales) -> None:
    """Raises UserError for an expert that a model of this shape does not have."""
    layers = [layer for layer in range(config.num_layers) if config.is_moe_layer(layer)]
    if scales and not config.is_sparse:
        raise UserError("task.expert_scale: this run is dense: it has no experts to scale")
    for layer, expert in scales:
        if layer not in layers:
            raise UserError(
                f"task.expert_scale names layer {layer}, which has no experts; those with experts: "
                f"{', '.join(map(str, layers))}"
            )
        if expert >= config.num_experts:
            raise UserError(
                f"task.expert_scale names expert {expert} of layer {layer}, which has experts 0 to "
                f"{config.num_experts - 1}"
            )
