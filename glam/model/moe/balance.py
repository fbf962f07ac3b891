"""What keeps the experts evenly loaded: losses of one MoE layer, without their coefficient, and the
bias that does without a loss.

`logits_TE` are the gate's. `mean` averages over all tokens of the batch, `[T, …] -> […]`, also
where a process has only some of them.
"""

from collections.abc import Callable
from functools import cache, partial, singledispatch

import torch
from jaxtyping import Float
from torch import Tensor

from glam.config import BALANCE_LOSSES, BalanceLossConfig
from glam.config.balance_losses.built_in import (
    EntropyLoss,
    GshardLoss,
    LossFree,
    NoBalanceLoss,
    ZLoss,
)
from glam.model.moe.routing import Routing

Mean = Callable[[Tensor], Tensor]
BalanceLoss = Callable[[Tensor, Routing, Mean], Tensor]


def over_tokens(x: Float[Tensor, "T *rest"]) -> Float[Tensor, "*rest"]:
    """The mean over all tokens, where one process has the whole batch."""
    return x.mean(0)


@cache  # the same value for all layers, so that one compiled program serves them all
def balance_loss(name: str) -> BalanceLoss:
    """The loss `(logits [T, E], routing, mean over tokens) -> scalar` of that name."""
    kind = BALANCE_LOSSES[name]()
    return partial(_loss.dispatch(type(kind)), kind)


@singledispatch
def _loss(
    kind: BalanceLossConfig, logits_TE: Float[Tensor, "T E"], routing: Routing, mean: Mean
) -> Float[Tensor, ""]:
    return kind(logits_TE, routing, mean)


@_loss.register(NoBalanceLoss)
@_loss.register(LossFree)
def none(
    kind: NoBalanceLoss | LossFree, logits_TE: Float[Tensor, "T E"], routing: Routing, mean: Mean
) -> Float[Tensor, ""]:
    """Zero."""
    return logits_TE.new_zeros(())


@_loss.register
def entropy(
    kind: EntropyLoss, logits_TE: Float[Tensor, "T E"], routing: Routing, mean: Mean
) -> Float[Tensor, ""]:
    """Negative entropy of the mean gate, in nats: -ln E when even, 0 when one expert has all."""
    mean_E = mean(routing.probabilities)
    return torch.xlogy(mean_E, mean_E).sum()


@_loss.register
def gshard(
    kind: GshardLoss, logits_TE: Float[Tensor, "T E"], routing: Routing, mean: Mean
) -> Float[Tensor, ""]:
    """E * sum of (share of tokens whose first choice it is) * (mean gate): 1 when even, E when
    one expert has all (GShard, arXiv 2006.16668, section 2.2)."""
    num_experts = logits_TE.shape[1]
    # Its own one-hot, shared with nothing: slicing a larger one aborts GSPMD (torch_xla 2.9).
    expert_E = torch.arange(num_experts, device=logits_TE.device)
    first_TE = (routing.experts[:, :1] == expert_E).to(logits_TE.dtype)
    return num_experts * (mean(first_TE) * mean(routing.probabilities)).sum()


@_loss.register
def z_loss(
    kind: ZLoss, logits_TE: Float[Tensor, "T E"], routing: Routing, mean: Mean
) -> Float[Tensor, ""]:
    """Mean squared log-partition of the gate: keeps its logits small (ST-MoE, 2202.08906)."""
    return mean(logits_TE.logsumexp(-1).square())


EVEN = 1e-6  # of the mean load: less is even, so that no order of sums over devices decides a sign


def towards_even(load: Float[Tensor, "*layers E"]) -> Float[Tensor, "*layers E"]:
    """1 for an expert with less than the mean load, -1 for one with more, else 0: where its bias
    goes (Wang et al. 2024, arXiv 2408.15664, algorithm 1). `load` is each expert's share of the
    choices."""
    lacking = 1 - load.shape[-1] * load
    return lacking.sign() * (lacking.abs() > EVEN).to(load.dtype)
