"""The dispatcher of static shapes: every expert has the same number of seats (GShard).

Nothing here depends on the data's values, so XLA compiles it once and GSPMD can split it: no
`.item()`, no sorting, products with one-hot matrices instead.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, einsum

from glam.model.experts import Experts
from glam.model.routing import Dispatched, Routing


def num_seats(tokens: int, num_experts: int, top_k: int, factor: float, minimum: int) -> int:
    """Seats per expert for a group of `tokens`; more than all of them can never be taken."""
    return min(tokens, max(minimum, math.ceil(factor * top_k * tokens / num_experts)))


def seats(chosen_BSKE: Bool[Tensor, "B S K E"], capacity: int) -> Bool[Tensor, "B S K C"]:
    """The seat of every choice at its expert: first choices are seated before second choices,
    earlier tokens before later ones, each group (row of the batch) by itself. No seat: no C."""
    chosen_BKSE = chosen_BSKE.transpose(1, 2)
    # float32 counts exactly up to 2^24 and is the cumulative sum that TPUs are fast at.
    arrivals = chosen_BKSE.flatten(1, 2).cumsum(1, dtype=torch.float32).view(chosen_BKSE.shape)
    arrival_BSK = (arrivals * chosen_BKSE).sum(-1).transpose(1, 2)
    seat_C = torch.arange(1, capacity + 1, device=chosen_BSKE.device)
    return arrival_BSK[..., None] == seat_C


def capacity(
    x_BSM: Float[Tensor, "B S M"],
    routing: Routing,
    experts: Experts,
    *,
    factor: float,
    minimum: int,
) -> Dispatched:
    """A group is one row of the batch. A token without a seat passes by: its `y` is zero."""
    B, S, _ = x_BSM.shape
    E, K = routing.probabilities.shape[1], routing.experts.shape[1]
    gates_BSK = routing.gates.view(B, S, K)
    expert_E = torch.arange(E, device=x_BSM.device)
    made_BSK = gates_BSK > 0
    chosen_BSKE = (routing.experts.view(B, S, K, 1) == expert_E) & made_BSK[..., None]
    seat_BSKC = seats(chosen_BSKE, num_seats(S, E, K, factor, minimum))

    gate_BSKE = (gates_BSK[..., None] * chosen_BSKE).to(x_BSM.dtype)
    combine_BSEC = einsum("bske,bskc->bsec", gate_BSKE, seat_BSKC.to(x_BSM.dtype))
    seated_EBCM = einsum("bsec,bsm->ebcm", (combine_BSEC > 0).to(x_BSM.dtype), x_BSM)
    y_EBCM = experts(seated_EBCM.flatten(1, 2)).view_as(seated_EBCM)
    y_BSM = einsum("bsec,ebcm->bsm", combine_BSEC, y_EBCM)
    dropped = 1 - seat_BSKC.sum() / made_BSK.sum()
    return Dispatched(y_BSM, dropped.to(routing.gates.dtype))
