"""The dropless dispatcher: every choice is served."""

from jaxtyping import Float
from torch import Tensor

from glam.model.expert_by_expert import expert_by_expert
from glam.model.experts import Experts
from glam.model.fused_experts import fused_experts
from glam.model.routing import Dispatched, Routing
from glam.model.sorted_layout import fill, sorted_layout
from glam.model.whole_experts import layout_of_steps, suits, whole_experts


def grouped(x_BSM: Float[Tensor, "B S M"], routing: Routing, experts: Experts) -> Dispatched:
    """How the rows are laid out and multiplied is chosen by device and size."""
    x_TM, chosen, num_experts = x_BSM.flatten(0, 1), routing.experts, len(experts.w_in_EMH)
    if suits(x_BSM, experts):
        layout = layout_of_steps(chosen, num_experts, x_BSM.dtype)
        y_TM = whole_experts(x_TM, routing, experts, layout)
    else:
        layout = sorted_layout(chosen, num_experts, fill(x_BSM))
        mixed = expert_by_expert if x_BSM.device.type == "cpu" else fused_experts
        y_TM = mixed(x_TM, routing, experts, layout)
    return Dispatched(y_TM.view_as(x_BSM), dropped=routing.gates.new_zeros(()))
