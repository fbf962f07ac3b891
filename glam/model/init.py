"""Initial values. They depend on the seed and the parameter's name, and an expert's on its number:
runs that differ in their number of experts start from the same dense weights."""

import hashlib
import math

import torch
from torch import Tensor, nn

from glam.config.layout import kind, letters


def initialize(model: nn.Module, seed: int) -> None:
    """Draw every parameter anew, except those on the meta device."""
    for name, parameter in model.named_parameters():
        if not parameter.is_meta:
            draw(parameter.detach(), name, seed)


def draw(weight: Tensor, name: str, seed: int) -> None:
    """Write the initial values of the parameter `name` into `weight`, a whole parameter."""
    # A seed means the same weights in every version: draws are keyed by the names of version 0.1.
    key = name.replace(".ffn", ".mixing")
    if letters(name)[0] == "E" and weight.dim() == 3:
        for number, expert in enumerate(weight.unbind(0)):
            _draw(expert, name, _generator(seed, key, number))
    else:
        _draw(weight, name, _generator(seed, key))


def _generator(*identity: object) -> torch.Generator:
    digest = hashlib.sha256("/".join(map(str, identity)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _draw(weight: Tensor, name: str, generator: torch.Generator) -> None:
    """By the parameter's kind (`glam.config.layout.KINDS`)."""
    found = kind(name)
    match found.initial:
        case "zeros":
            weight.zero_()
        case "ones":
            weight.fill_(1)
        case "normal":
            std = found.gain / math.sqrt(weight.shape[found.fan_in])
            # Drawn on the CPU in float32, so that every device starts from the same values.
            weight.copy_(torch.empty(weight.shape).normal_(std=std, generator=generator))
