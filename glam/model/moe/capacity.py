"""The dispatcher of static shapes: every expert has the same number of capacity slots (GShard,
arXiv 2006.16668).

No shape depends on the routing, so XLA compiles it once and GSPMD can split it: products with
one-hot matrices in place of sorting, and no `.item()`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
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


# `(chosen [B, S, K, E], routing, capacity) -> slots [B, S, K, C]`
Priority = Callable[[Tensor, Routing, int], Tensor]


def by_position(
    chosen_BSKE: Bool[Tensor, "B S K E"], routing: Routing, capacity: int
) -> Bool[Tensor, "B S K C"]:
    """Earlier tokens first, as GShard."""
    return slots(chosen_BSKE, capacity)


def by_gate(
    chosen_BSKE: Bool[Tensor, "B S K E"], routing: Routing, capacity: int
) -> Bool[Tensor, "B S K C"]:
    """Tokens of the highest probability of their first expert first, of equals the earlier one:
    batch-priority routing (Riquelme et al. 2021, arXiv 2106.05974, section 4.1). Here a batch is a
    row, and first choices still come before second ones.

    It looks at the whole row, so a token's output depends on later tokens too: no language model
    could be judged or used by it. `MixtureOfExperts` drops nothing outside training with it.
    """
    first_T = routing.probabilities.gather(-1, routing.experts[:, :1])[:, 0]
    order_BS = first_T.view(chosen_BSKE.shape[:2]).argsort(dim=1, descending=True, stable=True)
    found_BSKC = slots(_along(chosen_BSKE, order_BS), capacity)
    return _along(found_BSKC, order_BS.argsort(dim=1))


def _along(x: Bool[Tensor, "B S K X"], order_BS: Int[Tensor, "B S"]) -> Bool[Tensor, "B S K X"]:
    """The tokens of every row in another order."""
    return x.gather(1, order_BS[..., None, None].expand_as(x))


def capacity(
    x_BSM: Float[Tensor, "B S M"],
    routing: Routing,
    experts: Experts,
    slots_per_expert: Callable[[int], int],
    priority: Priority = by_position,
) -> Dispatched:
    """Dispatches every row of the batch as a group of its own. `y` is 0 for a token that finds no
    slot."""
    B, S, _ = x_BSM.shape
    E, K = routing.probabilities.shape[1], routing.experts.shape[1]
    gates_BSK = routing.gates.view(B, S, K)
    expert_E = torch.arange(E, device=x_BSM.device)
    used_BSK = gates_BSK > 0
    chosen_BSKE = (routing.experts.view(B, S, K, 1) == expert_E) & used_BSK[..., None]
    slot_BSKC = priority(chosen_BSKE, routing, slots_per_expert(S))

    gate_BSKE = (gates_BSK[..., None] * chosen_BSKE).to(x_BSM.dtype)
    combine_BSEC = einsum("bske,bskc->bsec", gate_BSKE, slot_BSKC.to(x_BSM.dtype))
    in_slots_EBCM = einsum("bsec,bsm->ebcm", (combine_BSEC > 0).to(x_BSM.dtype), x_BSM)
    y_EBCM = experts(in_slots_EBCM.flatten(1, 2)).view_as(in_slots_EBCM)
    y_BSM = einsum("bsec,ebcm->bsm", combine_BSEC, y_EBCM)
    dropped = 1 - slot_BSKC.sum() / used_BSK.sum()
    return Dispatched(y_BSM, dropped.to(routing.gates.dtype))
