"""The dropless dispatcher: every choice is served."""

from jaxtyping import Float
from torch import Tensor

from glam.model.block_layout import block_layout, suits
from glam.model.experts import Experts
from glam.model.fused_experts import fused_experts
from glam.model.routing import Dispatched, Routing
from glam.model.sorted_layout import fill, sorted_layout


def grouped(x_BSM: Float[Tensor, "B S M"], routing: Routing, experts: Experts) -> Dispatched:
    """The layout of the rows is chosen by device and size."""
    chosen, num_experts = routing.experts, len(experts.w_in_EMH)
    if suits(x_BSM, experts):
        layout = block_layout(chosen, num_experts)
    else:
        layout = sorted_layout(chosen, num_experts, fill(x_BSM))
    y_TM = fused_experts(x_BSM.flatten(0, 1), routing, experts, layout)
    return Dispatched(y_TM.view_as(x_BSM), dropped=routing.gates.new_zeros(()))
