"""Reads the model of a run folder: its configuration and its weights, of any version."""

from pathlib import Path

from torch import Tensor

from glam.config import ModelConfig
from glam.errors import UserError
from glam.model.saved_tensors import SafetensorsSource, SavedTensors, Source
from glam.runs.checkpoints import Checkpoint, newest_checkpoint
from glam.runs.folder import RunFolder
from glam.runs.manifest import Manifest

EMBEDDING, EXPORTED_EMBEDDING = "embedding.w_VM", "embedding.weight"


def saved_config(run: Path) -> ModelConfig:
    """The model section of `config.yaml`. Raises UserError for a file that is absent, cut short or
    changed."""
    return RunFolder(run).run_config().model


def saved_weights(run: Path) -> dict[str, Tensor]:
    """The weights of the newest undamaged checkpoint, by today's names. A damaged one is reported
    in one line and passed over. Raises UserError where there is none to read."""
    found = checkpoint_of(run)
    return dict(read_weights(found.path, found.manifest))


def checkpoint_of(run: Path) -> Checkpoint:
    """The newest undamaged checkpoint; see `saved_weights` for the errors."""
    found = newest_checkpoint(run / "checkpoints")
    if found is None:
        done = RunFolder(run).summary() is not None
        raise UserError(
            f"{run} has no checkpoint that can be read; "
            + (
                "its own command with rerun=true trains it again"
                if done
                else "finish the run first"
            )
        )
    return found


def read_weights(folder: Path, manifest: Manifest, prefix: str = "") -> SavedTensors:
    """The weights of the checkpoint `folder`, by today's names after `prefix`: of one file, or of
    several in which processes saved their parts."""
    files: list[Source] = [SafetensorsSource(folder / name) for name in manifest.parts("model")]
    return SavedTensors(
        files, manifest.split | manifest.grid, lambda name: prefix + name_today(name)
    )


def name_today(name: str) -> str:
    """The name today of a weight saved by any version, 0.1 called the feed-forward `mixing`, or in
    an exported folder, where the embedding is one of torch's."""
    name = EMBEDDING if name == EXPORTED_EMBEDDING else name
    return name.replace(".mixing_norm.", ".ffn_norm.").replace(".mixing.", ".ffn.")
