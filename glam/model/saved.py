"""What a run folder holds of its model."""

from pathlib import Path
from typing import Any

import yaml
from safetensors import torch as safetensors
from torch import Tensor

from glam.config import ModelConfig, RouterConfig
from glam.errors import UserError


def saved_config(run: Path) -> ModelConfig:
    """The model section of `config.yaml`. Raises UserError where there is none."""
    file = run / "config.yaml"
    if not file.is_file():
        raise UserError(f"{run} is no run folder (no config.yaml in it); name one under runs/")
    section: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["model"]
    router = RouterConfig(**section.pop("router"))
    return ModelConfig(**section, router=router)


def saved_weights(run: Path) -> dict[str, Tensor]:
    """Of the newest checkpoint whose manifest was written, which happens last."""
    whole = sorted((run / "checkpoints").glob("step-*/manifest.json"))
    if not whole:
        raise UserError(f"{run} has no checkpoint yet; finish the run first")
    return safetensors.load_file(whole[-1].with_name("model.safetensors"))  # pyright: ignore[reportUnknownMemberType]
