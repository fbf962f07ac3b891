"""Reads the model of a run folder: its configuration and its weights, of any version."""

from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from glam.config import ModelConfig
from glam.errors import UserError
from glam.runs.checkpoints import newest_checkpoint, weight_files
from glam.runs.folder import RunFolder


def saved_config(run: Path) -> ModelConfig:
    """The model section of `config.yaml`. Raises UserError for a file that is absent, cut short or
    changed."""
    return RunFolder(run).run_config().model


def saved_weights(run: Path) -> dict[str, Tensor]:
    """The weights of the newest undamaged checkpoint, by today's names. A damaged one is reported
    in one line and passed over. Raises UserError where there is none to read."""
    found = newest_checkpoint(run / "checkpoints")
    if found is None:
        raise UserError(f"{run} has no checkpoint that can be read; finish the run first")
    return read_weights(found.path, found.manifest)


def read_weights(folder: Path, manifest: dict[str, Any]) -> dict[str, Tensor]:
    """The whole weights of the checkpoint `folder`, by today's names: of one file, or of several in
    which processes saved their parts."""
    files = [folder / name for name in weight_files(manifest)]
    parts: list[dict[str, Tensor]] = [safetensors.load_file(file) for file in files]  # pyright: ignore[reportUnknownMemberType]
    weights = join_parts(parts, manifest.get("split", {}))
    return {name_today(name): value for name, value in weights.items()}


def name_today(name: str) -> str:
    """The name today of a weight saved by any version: 0.1 called the feed-forward `mixing`."""
    return name.replace(".mixing_norm.", ".ffn_norm.").replace(".mixing.", ".ffn.")


def join_parts(parts: list[dict[str, Tensor]], splits: dict[str, int]) -> dict[str, Tensor]:
    """Joins the weights of several files: `splits` gives the dimension along which a weight was
    split. Unsplit weights are stored complete in the first file."""
    return {
        name: torch.cat([part[name] for part in parts], splits[name]) if name in splits else value
        for name, value in parts[0].items()
    }
