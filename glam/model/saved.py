"""What a run folder holds of its model."""

from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import torch as safetensors
from torch import Tensor

from glam.config import ModelConfig, from_mapping
from glam.errors import UserError
from glam.runs.checkpoints import newest_checkpoint, weight_files


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
    return read_weights(found.path, found.manifest)


def read_weights(folder: Path, manifest: dict[str, Any]) -> dict[str, Tensor]:
    """Whole, whoever wrote them."""
    files = [folder / name for name in weight_files(manifest)]
    parts: list[dict[str, Tensor]] = [safetensors.load_file(file) for file in files]  # pyright: ignore[reportUnknownMemberType]
    weights = joined(parts, manifest.get("split", {}))
    return {name_today(name): value for name, value in weights.items()}


def name_today(name: str) -> str:
    """Of a weight that was saved by any version."""
    return name.replace(".mixing_norm.", ".ffn_norm.").replace(".mixing.", ".ffn.")


def joined(parts: list[dict[str, Tensor]], splits: dict[str, int]) -> dict[str, Tensor]:
    """What is not in `splits`, the first part has whole."""
    return {
        name: torch.cat([part[name] for part in parts], splits[name]) if name in splits else value
        for name, value in parts[0].items()
    }
