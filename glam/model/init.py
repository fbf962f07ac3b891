"""Initial values: a parameter's depend on the seed and its own name alone, and an expert's on its
number too. So runs that differ in their number of experts start from the same dense weights."""

import hashlib
import math

import torch
from torch import Tensor, nn

GATE_SCALE = 0.1  # logits of the gate start small: every expert near 1 / E


def initialize(model: nn.Module, seed: int) -> None:
    """Draw every parameter anew. Those on the meta device are left alone."""
    for name, parameter in model.named_parameters():
        if not parameter.is_meta:
            draw(parameter.detach(), name, seed)


def draw(weight: Tensor, name: str, seed: int) -> None:
    """The initial values of the parameter `name`, into `weight`."""
    # A seed means the same weights in every version: they are drawn by the names of the first.
    name = name.replace(".ffn", ".mixing")
    if "_E" in name and weight.dim() == 3:
        for number, expert in enumerate(weight.unbind(0)):
            _draw(expert, name, _generator(seed, name, number))
    else:
        _draw(weight, name, _generator(seed, name))


def _generator(*identity: object) -> torch.Generator:
    digest = hashlib.sha256("/".join(map(str, identity)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _draw(weight: Tensor, name: str, generator: torch.Generator) -> None:
    leaf = name.rsplit(".", 1)[-1]
    if leaf.startswith("bias"):
        weight.zero_()
    elif leaf.startswith("scale"):
        weight.fill_(1)
    else:
        # Drawn on the CPU in float32, so that every device starts from the same values.
        normal = torch.empty(weight.shape).normal_(std=_std(leaf, weight), generator=generator)
        weight.copy_(normal)


def _std(leaf: str, weight: Tensor) -> float:
    if leaf == "w_VM":
        return weight.shape[1] ** -0.5  # tied: unit logits here, unit inputs after sqrt(M)
    scale = GATE_SCALE if leaf == "w_ME" else 1.0
    return scale / math.sqrt(weight.shape[0])
