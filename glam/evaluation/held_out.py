"""Loss and bits per byte on held-out whole documents, domain by domain."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from glam.data import HeldOutBatch, PreparedData, held_out, held_out_bytes
from glam.machine.processes import SINGLE, Processes
from glam.model import Glam
from glam.model.evaluating import evaluating


class CleanLoss(NamedTuple):
    """Held-out loss on documents that do not overlap with the training text."""

    loss: float  # nats per token
    tokens: int


class DomainResult(NamedTuple):
    """Held-out loss of a domain. `shares[layer][expert]` is the expert's share of the choices in an
    MoE layer."""

    loss: float  # nats per token
    bits_per_byte: float
    tokens: int
    bytes: int
    shares: list[list[float]]
    clean: CleanLoss | None = None  # where it is known which documents overlap


def evaluate_domains(
    model: Glam,
    prepared: PreparedData,
    *,
    sequence_length: int,
    batch_size: int,
    max_tokens: int,
    domains: Iterable[str] | None = None,
    clean: Mapping[str, NDArray[np.bool_]] | None = None,
    processes: Processes = SINGLE,
) -> dict[str, DomainResult]:
    """Held-out results by domain, each on at most `max_tokens` tokens spread over the domain's
    text; of `domains`, or of all. `clean` tells by domain which documents do not overlap with the
    training text `[documents]`: these have a loss of their own.

    Draws nothing from torch's generators, and leaves the model in the mode it was in. Several
    processes share the rows, and each returns the whole result.
    """
    with evaluating(model):
        return {
            domain: _evaluate(
                model,
                held_out(prepared, domain, sequence_length, batch_size, max_tokens),
                held_out_bytes(prepared, domain, sequence_length, max_tokens),
                (clean or {}).get(domain),
                processes,
            )
            for domain in (prepared.domains if domains is None else domains)
        }


def mean_loss(results: Mapping[str, DomainResult]) -> float:
    """Mean loss in nats per token, with equal weight for every domain."""
    return sum(result.loss for result in results.values()) / len(results)


def _evaluate(
    model: Glam,
    batches: Iterator[HeldOutBatch],
    num_bytes: int,
    clean: NDArray[np.bool_] | None,
    processes: Processes,
) -> DomainResult:
    nats, clean_nats, tokens, clean_tokens = 0.0, 0.0, 0, 0
    shares = torch.zeros(model.config.num_moe_layers, model.config.num_experts).double()
    for batch in batches:
        used = np.flatnonzero(batch.mask.any(1))  # padding alone would count as load
        count = int(batch.mask.sum())
        mine = processes.rows(len(used))
        # At least a row per process, or one shape for every batch: padding rows count for nothing.
        wanted = len(batch.mask) if model.one_shape else max(1, len(mine))
        rows = np.resize(used[mine.start : mine.stop] if mine else used, wanted)
        counts = batch.mask[rows]
        counts[len(mine) :] = False
        is_clean = _at(clean, batch)
        clean_tokens += int(is_clean.sum())
        totals = _totals(model, batch, rows, counts, counts & is_clean[rows])
        nats += totals[0].item()
        clean_nats += totals[1].item()
        tokens += count
        shares += count * len(mine) / len(used) * totals[2:].view_as(shares)
    sums = processes.sum(torch.tensor([nats, clean_nats]).double())
    nats, clean_nats = sums[0].item(), sums[1].item()
    shares = processes.sum(shares)
    return DomainResult(
        loss=nats / tokens,
        bits_per_byte=nats / math.log(2) / num_bytes,
        tokens=tokens,
        bytes=num_bytes,
        shares=[[float(share) for share in layer] for layer in shares / tokens],
        clean=CleanLoss(clean_nats / clean_tokens, clean_tokens) if clean_tokens else None,
    )


def _totals(
    model: Glam, batch: HeldOutBatch, rows: NDArray[np.intp], *chosen: NDArray[np.bool_]
) -> torch.Tensor:
    """Of rows of a batch: the nats of the `chosen` tokens `[rows, sequence]`, one sum each, and
    then the load of each expert of each layer."""
    device = next(model.parameters()).device
    parts = (batch.tokens[rows], batch.targets[rows], batch.segments[rows], *chosen)
    token_ids, targets, segments, *masks = (
        torch.from_numpy(part).to(device)  # pyright: ignore[reportUnknownMemberType]
        for part in parts
    )
    output = model.loss(token_ids, targets, segments)
    nats = [output.token_losses.where(chosen, 0.0).sum(dtype=torch.float32) for chosen in masks]
    # One tensor: XLA computes anew for every value that is read.
    return torch.cat([torch.stack(nats), output.load.float().flatten()]).cpu().double()


def _at(clean: NDArray[np.bool_] | None, batch: HeldOutBatch) -> NDArray[np.bool_]:
    """Where a batch has tokens of clean documents."""
    if clean is None:
        return np.zeros_like(batch.mask)
    return batch.mask & clean[np.where(batch.mask, batch.documents, 0)]
