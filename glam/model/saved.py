"""What a run folder holds of its model."""

from pathlib import Path
from typing import Any

import yaml
from safetensors import torch as safetensors
from torch import Tensor

from glam.checkpoints import WEIGHTS, newest_checkpoint
from glam.config import ModelConfig, from_mapping
from glam.errors import UserError


def saved_config(run: Path) -> ModelConfig:
    """The model section of `config.yaml`. Raises UserError where there is none."""
    file = run / "config.yaml"
    if not file.is_file():
        raise UserError(f"{run} is no run folder (no config.yaml in it); name one under runs/")
    section: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["model"]
    return from_mapping(ModelConfig, section)


def saved_weights(run: Path) -> dict[str, Tensor]:
    """Of the newest checkpoint that is whole; a damaged one is passed over, in one line on stderr.

    Raises UserError where there is none.
    """
    found = newest_checkpoint(run / "checkpoints")
    if found is None:
        raise UserError(f"{run} has no checkpoint that can be read; finish the run first")
    return safetensors.load_file(found.path / WEIGHTS)  # pyright: ignore[reportUnknownMemberType]
