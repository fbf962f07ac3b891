"""Devices whose programs a compiler makes: one for each shape that it meets."""

import torch

# torch_xla's device, and TorchTPU's.
COMPILED = ("xla", "tpu")


def is_compiled(device: torch.device | str) -> bool:
    """Whether a compiler makes the programs of `device`, so that shapes should be few and numbers
    stay on it."""
    return torch.device(device).type in COMPILED
