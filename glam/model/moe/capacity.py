"""The dispatcher of static shapes: every expert has the same number of capacity slots (GShard,
arXiv 2006.16668).

No shape depends on the routing, so XLA compiles it once and GSPMD can split it: products with
one-hot matrices in place of sorting, and no `.item()`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, einsum

from glam.model.moe.experts import Experts
from glam.model.moe.routing import Dispatched, Routing


def slots(chosen_BSKE: Bool[Tensor, "B S K E"], capacity: int) -> Bool[Tensor, "B S K C"]:
    """The capacity slot of every choice at its expert, one-hot over C. In each group (a row of the
    batch) first choices come before second choices, earlier tokens before later ones. For a dropped
    choice the C axis is all False."""
    chosen_BKSE = chosen_BSKE.transpose(1, 2)
    # float32 counts exactly up to 2^24 and is the cumulative sum that TPUs are fast at.
    arrivals = chosen_BKSE.flatten(1, 2).cumsum(1, dtype=torch.float32).view(chosen_BKSE.shape)
    arrival_BSK = (arrivals * chosen_BKSE).sum(-1).transpose(1, 2)
    slot_C = torch.arange(1, capacity + 1, device=chosen_BSKE.device)
    return arrival_BSK[..., None] == slot_C


def capacity(
    x_BSM: Float[Tensor, "B S M"],
    routing: Routing,
    experts: Experts,
    slots_per_expert: Callable[[int], int],
) -> Dispatched:
    """Dispatches every row of the batch as a group of its own. `y` is 0 for a token that finds no
    slot."""
    B, S, _ = x_BSM.shape
    E, K = routing.probabilities.shape[1], routing.experts.shape[1]
    gates_BSK = routing.gates.view(B, S, K)
    expert_E = torch.arange(E, device=x_BSM.device)
    used_BSK = gates_BSK > 0
    chosen_BSKE = (routing.experts.view(B, S, K, 1) == expert_E) & used_BSK[..., None]
    slot_BSKC = slots(chosen_BSKE, slots_per_expert(S))

    gate_BSKE = (gates_BSK[..., None] * chosen_BSKE).to(x_BSM.dtype)
    combine_BSEC = einsum("bske,bskc->bsec", gate_BSKE, slot_BSKC.to(x_BSM.dtype))
    in_slots_EBCM = einsum("bsec,bsm->ebcm", (combine_BSEC > 0).to(x_BSM.dtype), x_BSM)
    y_EBCM = experts(in_slots_EBCM.flatten(1, 2)).view_as(in_slots_EBCM)
    y_BSM = einsum("bsec,ebcm->bsm", combine_BSEC, y_EBCM)
    dropped = 1 - slot_BSKC.sum() / used_BSK.sum()
    return Dispatched(y_BSM, dropped.to(routing.gates.dtype))
