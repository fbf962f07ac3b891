"""Losses that keep the experts evenly loaded, by name; each is of one layer and without its
coefficient. They see all tokens of the batch at once."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from glam.model.routing import Routing

BalanceLoss = Callable[[Tensor, Routing], Tensor]


def none(logits_TE: Float[Tensor, "T E"], routing: Routing) -> Float[Tensor, ""]:
    return logits_TE.new_zeros(())


def entropy(logits_TE: Float[Tensor, "T E"], routing: Routing) -> Float[Tensor, ""]:
    """Negative entropy of the mean gate, in nats: -ln E when even, 0 when one expert has all."""
    mean_E = routing.probabilities.mean(0)
    return torch.xlogy(mean_E, mean_E).sum()


def gshard(logits_TE: Float[Tensor, "T E"], routing: Routing) -> Float[Tensor, ""]:
    """E * sum of (share of tokens whose first choice it is) * (mean gate): 1 when even, E when
    one expert has all (GShard, arXiv 2006.16668, section 2.2)."""
    num_experts = logits_TE.shape[1]
    # Its own one_hot, shared with nothing: slicing a larger one aborts GSPMD (torch_xla 2.9).
    first_E = functional.one_hot(routing.experts[:, 0], num_experts).to(logits_TE.dtype).mean(0)
    return num_experts * (first_E * routing.probabilities.mean(0)).sum()


def z_loss(logits_TE: Float[Tensor, "T E"], routing: Routing) -> Float[Tensor, ""]:
    """Mean squared log-partition of the gate: keeps its logits small (ST-MoE, 2202.08906)."""
    return logits_TE.logsumexp(-1).square().mean()


BALANCE: dict[str, BalanceLoss] = {
    "none": none,
    "entropy": entropy,
    "gshard": gshard,
    "z_loss": z_loss,
}
