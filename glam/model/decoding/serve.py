"""A trained run ready to write with less memory than its experts take."""

from pathlib import Path
from typing import NamedTuple

import torch

from glam import kernels
from glam.errors import UserError
from glam.model.decoding.kernel_decoder import KernelDecoder
from glam.model.decoding.served_weights import ExpertFile, ServedWeights
from glam.model.glam import Glam
from glam.model.saved import checkpoint_of, read_weights, saved_config


class Served(NamedTuple):
    """A model, whose experts are on the meta device, and the decoder that has them."""

    model: Glam
    decoder: KernelDecoder
    weights: ServedWeights


def serve(
    run: Path,
    *,
    dtype: torch.dtype = torch.float32,
    int8: bool = False,
    pool_bytes: int | None = None,
) -> Served:
    """The newest weights of a run's folder, on the CPU: its experts in int8 if asked for, in at
    most `pool_bytes`. Raises UserError where no checkpoint can be read, it is in several files, the
    pool is too small, or there are no kernels here."""
    if not kernels.has("decode"):
        raise UserError(
            "task.memory_mb and task.expert_type=int8 need the CPU kernels, which could not be "
            "built here or are switched off; leave them out"
        )
    config, found = saved_config(run), checkpoint_of(run)
    if not config.is_sparse:
        raise UserError(
            f"{run} has no experts: task.memory_mb and task.expert_type=int8 change nothing; "
            f"leave them out"
        )
    parts = found.manifest.parts("model")
    if len(parts) > 1:
        raise UserError(
            f"{found.path}: its weights are in {len(parts)} files; task.memory_mb and "
            f"task.expert_type=int8 read one: train on with one process, or leave them out"
        )
    with torch.device("meta"):
        model = Glam(config, dtype=dtype)
    saved = read_weights(found.path, found.manifest)
    dense = {name: saved[name] for name in saved if ".experts." not in name}
    model.load_state_dict(dense, assign=True, strict=False)
    file = ExpertFile.open(found.path / parts[0])
    weights = ServedWeights(model.eval(), file, int8=int8, pool_bytes=pool_bytes)
    return Served(model, KernelDecoder(model, weights), weights)
