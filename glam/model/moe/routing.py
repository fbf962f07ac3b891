"""What passes between router, dispatcher and experts."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Routing(NamedTuple):
    """The choices of every token, the favourite first. A choice with gate 0 is not made."""

    experts: Int[Tensor, "T K"]
    gates: Float[Tensor, "T K"]
    probabilities: Float[Tensor, "T E"]


class Dispatched(NamedTuple):
    """The gated sum of the experts' outputs, and the share of choices that found no seat."""

    y: Float[Tensor, "B S M"]
    dropped: Float[Tensor, ""]
