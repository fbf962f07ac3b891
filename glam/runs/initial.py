"""The trained weights that a run begins with: what `model.init_from` names, found without torch.

A run is known by the content of these weights, not by how their place is spelled. So a finished run
is skipped wherever they lie now, and weights that have changed make another run.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from glam.config import ROOT, ModelConfig, RunConfig, typed_path
from glam.errors import UserError, first_line
from glam.runs.checkpoints import checksum, read_manifest, step_folders
from glam.runs.exported import CONFIG, MODEL_TYPE, WAY_OUT, WEIGHTS, read_exported
from glam.runs.finding import LATEST, find_run
from glam.runs.folder import RunFolder
from glam.runs.manifest import DamagedCheckpointError, FileDigest, Grid, Split

KEY = "model.init_from"
VOCABULARY = "tokenizer.vocab"
DIGITS = 16  # hexadecimal, of a digest
# What decides the shape of a weight.
SIZES = (
    *("vocab_size", "num_layers", "d_model", "d_ff", "num_heads", "head_size", "moe_every"),
    *("position_buckets", "num_experts"),
)


@dataclass(frozen=True, kw_only=True)
class Initial:
    """Trained weights, and the tokenizer of the text they were trained on."""

    named: str  # as typed
    folder: Path  # of the tokenizer
    weights: Path  # folder of the weights' files
    files: Mapping[str, FileDigest]  # of the weights, in their order
    splits: Mapping[str, Split | Grid] = field(default_factory=dict[str, Split | Grid])
    model: ModelConfig
    digest: str  # of weights and tokenizer

    def refusal(self, reason: str) -> UserError:
        return UserError(f"{KEY}={self.named}: {reason}")


def with_initial(config: RunConfig) -> RunConfig:
    """The configuration with the content of what `model.init_from` names. Raises UserError where
    that is no trained model, does not fit this one, or is not what was asked for."""
    model = config.model
    if model.init_from is None:
        return config
    found = find_initial(config)
    if model.init_digest not in (None, found.digest):
        raise found.refusal(
            f"it holds {found.digest} and model.init_digest={model.init_digest} is asked for: it "
            f"has changed since; bring that back, or leave model.init_digest out"
        )
    check_fits(found, model)
    return replace(config, model=replace(model, init_digest=found.digest))


def find_initial(config: RunConfig) -> Initial:
    """What `model.init_from` names now. Raises UserError where that is no trained model."""
    named = config.model.init_from
    assert named is not None
    typed = typed_path(KEY, named)
    if not named.strip():
        raise UserError(f"{KEY} is empty; {WAY_OUT}, or leave it out")
    for folder in (typed, ROOT / typed):
        if (folder / CONFIG).is_file():
            return _of_exported(named, folder.resolve())
    if named == LATEST:
        raise UserError(f"{KEY}=latest would be another run tomorrow; name a run")
    if typed.is_dir() and RunFolder.containing(named) is None:
        raise UserError(
            f"{KEY}={named} is neither a run nor a folder that task=export wrote; name one of them"
        )
    try:
        return _of_run(named, find_run(named, config.runs_path))
    except UserError as error:
        raise UserError(str(error).replace(f"run={named}", f"{KEY}={named}")) from None


def check_fits(initial: Initial, model: ModelConfig) -> None:
    """Raises UserError where the weights are not of the sizes of `model`: alike, or a dense model's
    for experts."""
    source = initial.model
    needed = [name for name in SIZES if getattr(source, name) != getattr(model, name)]
    if model.d_head is None and source.head_size * source.num_heads == source.d_model:
        needed = [name for name in needed if name != "head_size"]  # follows from the others
    if source.num_moe_layers and not source.is_sparse and source.top_k != model.top_k:
        needed.append("top_k")  # the width of the dense twin
    if is_upcycled(source, model):
        needed = [name for name in needed if name not in ("num_experts", "top_k")]
        if source.num_moe_layers == source.num_layers:
            needed = [name for name in needed if name != "d_ff"]  # of the other layers alone
    if needed:
        sizes = " ".join(_spelled(name, source, model) for name in needed)
        raise initial.refusal(f"its weights have other sizes than model={model.name}; add {sizes}")
    if source.moves_bias and not model.moves_bias:
        raise initial.refusal(
            f"its experts are chosen with a bias, which model.router.balance_loss="
            f"{model.router.balance_loss} does not have; add model.router.balance_loss=loss_free"
        )
    if is_upcycled(source, model):
        _check_upcycling(initial, model)


def _spelled(name: str, source: ModelConfig, model: ModelConfig) -> str:
    if name != "head_size":
        return f"model.{name}={getattr(source, name)}"
    usual = source.head_size * source.num_heads == source.d_model
    return f"model.d_head={'null' if usual else source.head_size}"


def is_upcycled(source: ModelConfig, model: ModelConfig) -> bool:
    """Whether a dense model's weights begin a sparse one's."""
    return model.is_sparse and not source.is_sparse


def slices_of_dense(source: ModelConfig, model: ModelConfig) -> int:
    """Of how many experts, side by side, a dense feed-forward is made; 0 where of no whole
    number."""
    wide = source.top_k * source.d_ff
    return wide // model.d_ff if wide % model.d_ff == 0 else 0


def _check_upcycling(initial: Initial, model: ModelConfig) -> None:
    slices, source = slices_of_dense(initial.model, model), initial.model
    if not slices or model.top_k % slices or model.num_experts % slices:
        wide = source.top_k * source.d_ff
        raise initial.refusal(
            f"experts of model.d_ff={model.d_ff} are no copies of its feed-forwards, {wide} wide: "
            f"the {wide / model.d_ff:g} experts side by side have to divide model.top_k="
            f"{model.top_k} and model.num_experts={model.num_experts}; try "
            f"model.top_k={source.top_k} model.d_ff={source.d_ff} and an even number of experts"
        )
    if not model.router.normalize:
        raise initial.refusal(
            "the gates of a new router sum to 1 only with model.router.normalize=true; set that"
        )


def _of_run(named: str, run: RunFolder) -> Initial:
    summary, model = run.summary(), run.run_config().model
    if summary is None or summary["status"] != "done":
        state = "has not finished" if summary is None else "diverged"
        raise UserError(f"{KEY}={named}: {run.path.name} {state}; name a run that is done")
    folders = step_folders(run.checkpoints)
    try:
        if not folders:
            raise DamagedCheckpointError("there is none")
        manifest = read_manifest(folders[0])
    except (DamagedCheckpointError, OSError) as error:
        raise UserError(
            f"{KEY}={named}: no checkpoint of {run.path.name} can be read ({first_line(error)}); "
            f"its own command with rerun=true trains it again"
        ) from None
    files = {name: manifest.files[name] for name in manifest.parts("model")}
    return Initial(
        named=named,
        folder=run.path,
        weights=folders[0],
        files=files,
        splits=manifest.split | manifest.grid,
        model=model,
        digest=_digest(files, _vocabulary(named, run.path)),
    )


def _of_exported(named: str, folder: Path) -> Initial:
    config = read_exported(folder)
    if config.model_type != MODEL_TYPE:
        raise UserError(
            f"{KEY}={named} is a model of type {config.model_type!r}, not of glam; {WAY_OUT}"
        )
    vocabulary = _vocabulary(named, folder)
    if vocabulary != config.tokenizer_sha256:
        raise UserError(
            f"{KEY}={named}: its tokenizer is not the one it was exported with; bring back "
            f"{VOCABULARY} and tokenizer.model"
        )
    files = {WEIGHTS: _checked_weights(named, folder / WEIGHTS)}
    return Initial(
        named=named,
        folder=folder,
        weights=folder,
        files=files,
        model=config.model,
        digest=_digest(files, vocabulary),
    )


def _digest(files: Mapping[str, FileDigest], vocabulary: str) -> str:
    said = [*(file.sha256 for file in files.values()), vocabulary]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:DIGITS]


def _vocabulary(named: str, folder: Path) -> str:
    """SHA-256 of the tokenizer's pieces."""
    try:
        return checksum(folder / VOCABULARY).sha256
    except (DamagedCheckpointError, OSError) as error:
        raise UserError(
            f"{KEY}={named}: its tokenizer cannot be read ({first_line(error)}); name a model that "
            f"has {VOCABULARY} and tokenizer.model"
        ) from None


def _checked_weights(named: str, file: Path) -> FileDigest:
    try:
        state = file.stat()
        return _whole(file, state.st_mtime_ns, state.st_size)
    except (DamagedCheckpointError, OSError) as error:
        reason = first_line(error)
        raise UserError(
            f"{KEY}={named}: {file.name} cannot be read ({reason}); export it again"
        ) from None


@functools.lru_cache(8)
def _whole(file: Path, time: int, size: int) -> FileDigest:
    """The digest of a safetensors file that was not cut short; once for a file and a grid."""
    import safetensors

    library: Any = safetensors  # which has half its types
    try:
        with library.safe_open(file, framework="numpy"):
            pass
    except safetensors.SafetensorError as error:
        raise DamagedCheckpointError(first_line(error)) from None
    return checksum(file)
