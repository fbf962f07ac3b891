"""Loss and bits per byte on held-out whole documents, domain by domain."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch

from glam.data import HeldOutBatch, PreparedData, held_out, held_out_bytes
from glam.machine.processes import SINGLE, Processes
from glam.model import Glam
from glam.model.evaluating import evaluating


class DomainResult(NamedTuple):
    """Held-out loss of a domain. `shares[layer][expert]` is the expert's share of the choices in an
    MoE layer."""

    loss: float  # nats per token
    bits_per_byte: float
    tokens: int
    bytes: int
    shares: list[list[float]]


def evaluate_domains(
    model: Glam,
    prepared: PreparedData,
    *,
    sequence_length: int,
    batch_size: int,
    max_tokens: int,
    domains: Iterable[str] | None = None,
    processes: Processes = SINGLE,
) -> dict[str, DomainResult]:
    """Held-out results by domain, each on at most `max_tokens` tokens spread over the domain's
    text; of `domains`, or of all.

    Draws nothing from torch's generators, and leaves the model in the mode it was in. Several
    processes share the rows, and each returns the whole result.
    """
    with evaluating(model):
        return {
            domain: _evaluate(
                model,
                held_out(prepared, domain, sequence_length, batch_size, max_tokens),
                held_out_bytes(prepared, domain, sequence_length, max_tokens),
                processes,
            )
            for domain in (prepared.domains if domains is None else domains)
        }


def mean_loss(results: Mapping[str, DomainResult]) -> float:
    """Mean loss in nats per token, with equal weight for every domain."""
    return sum(result.loss for result in results.values()) / len(results)


def _evaluate(
    model: Glam, batches: Iterator[HeldOutBatch], num_bytes: int, processes: Processes
) -> DomainResult:
    device = next(model.parameters()).device
    nats, tokens = 0.0, 0
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
        token_ids, targets, segments, mask = (
            torch.from_numpy(part).to(device)  # pyright: ignore[reportUnknownMemberType]
            for part in (batch.tokens[rows], batch.targets[rows], batch.segments[rows], counts)
        )
        output = model.loss(token_ids, targets, segments)
        total = output.token_losses.where(mask, 0.0).sum(dtype=torch.float32)
        # One tensor: XLA computes anew for every value that is read.
        totals = torch.cat([total[None], output.load.float().flatten()]).cpu().double()
        nats += totals[0].item()
        tokens += count
        shares += count * len(mine) / len(used) * totals[1:].view_as(shares)
    nats, shares = processes.sum(torch.tensor(nats).double()).item(), processes.sum(shares)
    return DomainResult(
        loss=nats / tokens,
        bits_per_byte=nats / math.log(2) / num_bytes,
        tokens=tokens,
        bytes=num_bytes,
        shares=[[float(share) for share in layer] for layer in shares / tokens],
    )
