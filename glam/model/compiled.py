"""Devices whose program a compiler makes, of the whole step at once."""

import torch

# No step reads a number back there, and no shape depends on values. On `meta` nothing is computed:
# a step is traced there for a compiler (glam.planning.step_graph).
COMPILED = ("xla", "tpu", "meta")


def is_compiled(device: torch.device | str) -> bool:
    """Whether a compiler makes the program of that device."""
    return torch.device(device).type in COMPILED
