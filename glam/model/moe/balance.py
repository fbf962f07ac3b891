"""Losses that keep the experts evenly loaded, by name; each is of one layer and without its
coefficient. They see all tokens of the batch at once: `mean` is over those, `[T, …] -> […]`, also
where a process has some of them only."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from glam.model.moe.routing import Routing

Mean = Callable[[Tensor], Tensor]
BalanceLoss = Callable[[Tensor, Routing, Mean], Tensor]


def over_tokens(x: Float[Tensor, "T *rest"]) -> Float[Tensor, "*rest"]:
    return x.mean(0)


def none(logits_TE: Float[Tensor, "T E"], routing: Routing, mean: Mean) -> Float[Tensor, ""]:
    return logits_TE.new_zeros(())


def entropy(logits_TE: Float[Tensor, "T E"], routing: Routing, mean: Mean) -> Float[Tensor, ""]:
    """Negative entropy of the mean gate, in nats: -ln E when even, 0 when one expert has all."""
    mean_E = mean(routing.probabilities)
    return torch.xlogy(mean_E, mean_E).sum()


def gshard(logits_TE: Float[Tensor, "T E"], routing: Routing, mean: Mean) -> Float[Tensor, ""]:
    """E * sum of (share of tokens whose first choice it is) * (mean gate): 1 when even, E when
    one expert has all (GShard, arXiv 2006.16668, section 2.2)."""
    num_experts = logits_TE.shape[1]
    # Its own one-hot, shared with nothing: slicing a larger one aborts GSPMD (torch_xla 2.9).
    expert_E = torch.arange(num_experts, device=logits_TE.device)
    first_TE = (routing.experts[:, :1] == expert_E).to(logits_TE.dtype)
    return num_experts * (mean(first_TE) * mean(routing.probabilities)).sum()


def z_loss(logits_TE: Float[Tensor, "T E"], routing: Routing, mean: Mean) -> Float[Tensor, ""]:
    """Mean squared log-partition of the gate: keeps its logits small (ST-MoE, 2202.08906)."""
    return mean(logits_TE.logsumexp(-1).square())


BALANCE: dict[str, BalanceLoss] = {
    "none": none,
    "entropy": entropy,
    "gshard": gshard,
    "z_loss": z_loss,
}
