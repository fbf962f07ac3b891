"""The experts of every token of held-out text, in every MoE layer."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glam.data import HeldOutBatch, PreparedData, held_out
from glam.evaluation.held_out import evaluating
from glam.model import Glam
from glam.model.moe.router import Router


@dataclass(frozen=True, eq=False)
class Routes:
    """`tokens [N]`, document after document, domain after domain, and the experts they went to:
    `experts[layer]` is `[N, K]`, the one with the highest gate first. `offsets [D + 1]` are the
    documents' first tokens, `domains [D]` their domains, indices of `names`."""

    tokens: NDArray[np.int64]
    experts: dict[int, NDArray[np.int64]]
    offsets: NDArray[np.int64]
    domains: NDArray[np.int64]
    names: list[str]


def held_out_routes(
    model: Glam,
    prepared: PreparedData,
    *,
    sequence_length: int,
    batch_size: int,
    max_tokens: int,
    domains: Iterable[str] | None = None,
) -> Routes:
    """On at most `max_tokens` tokens of each domain, those of the held-out loss; of `domains`, or
    of all. A document of which several rows were taken counts as one."""
    tokens, documents, of_domain = list[Any](), list[Any](), list[Any]()
    experts: dict[int, list[Any]] = {layer: [] for layer in moe_layers(model)}
    with evaluating(model), routing_of(model) as seen:
        for number, domain in enumerate(prepared.domains if domains is None else domains):
            for batch in held_out(prepared, domain, sequence_length, batch_size, max_tokens):
                mask = torch.from_numpy(batch.mask)  # pyright: ignore[reportUnknownMemberType]
                _run(model, batch)
                tokens.append(batch.tokens[batch.mask])
                documents.append(batch.documents[batch.mask])
                of_domain.append(np.full(len(tokens[-1]), number))
                for layer, chosen in seen.items():
                    experts[layer].append(chosen.cpu()[mask.flatten()].numpy())
    document, domain_of = np.concatenate(documents), np.concatenate(of_domain)
    begins = (np.diff(document, prepend=-1) != 0) | (np.diff(domain_of, prepend=-1) != 0)
    starts = np.flatnonzero(begins)
    return Routes(
        tokens=np.concatenate(tokens),
        experts={layer: np.concatenate(parts) for layer, parts in experts.items()},
        offsets=np.append(starts, len(document)),
        domains=domain_of[starts],
        names=list(prepared.domains),
    )


def _run(model: Glam, batch: HeldOutBatch) -> None:
    device = next(model.parameters()).device
    parts = (batch.tokens, batch.targets, batch.segments)
    tokens, targets, segments = (
        torch.from_numpy(part).to(device)  # pyright: ignore[reportUnknownMemberType]
        for part in parts
    )
    model.loss(tokens, targets, segments)


def routers(model: Glam) -> dict[int, Router]:
    """The router of every MoE layer, by the layer's index."""
    found: dict[int, Router] = {}
    for index, layer in enumerate(model.layers):
        for module in layer.modules():
            if isinstance(module, Router):
                found[index] = module
    return found


def moe_layers(model: Glam) -> list[int]:
    return list(routers(model))


@contextmanager
def routing_of(model: Glam) -> Generator[dict[int, Tensor]]:
    """The experts `[T, K]` that each MoE layer chose in the latest forward pass, by layer."""
    seen: dict[int, Tensor] = {}

    def watch(layer: int) -> Any:
        def see(module: nn.Module, inputs: Any, output: Any) -> None:
            seen[layer] = output[0].experts

        return see

    handles = [
        router.register_forward_hook(watch(layer)) for layer, router in routers(model).items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
