"""The values that pass between router, dispatcher and experts."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Routing(NamedTuple):
    """The `top_k` choices of every token, the highest gate first. A choice with gate 0 is unused.
    `probabilities` is the softmax over all experts."""

    experts: Int[Tensor, "T K"]
    gates: Float[Tensor, "T K"]
    probabilities: Float[Tensor, "T E"]


class Dispatched(NamedTuple):
    """The gated sum of the experts' outputs, and the share of choices that found no capacity
    slot."""

    y: Float[Tensor, "B S M"]
    dropped: Float[Tensor, ""]
