"""The dropless dispatcher: every choice is served."""

from jaxtyping import Float
from torch import Tensor

from glam.model.moe.experts import Experts
from glam.model.moe.experts_cpu_kernel import experts_cpu_kernel, padded_permutation, suits
from glam.model.moe.experts_grouped_mm import experts_grouped_mm
from glam.model.moe.experts_loop import experts_loop
from glam.model.moe.permutation import fill, permutation
from glam.model.moe.routing import Dispatched, Routing


def grouped(x_BSM: Float[Tensor, "B S M"], routing: Routing, experts: Experts) -> Dispatched:
    """How the rows are laid out and multiplied is chosen by device and size."""
    x_TM, chosen, num_experts = x_BSM.flatten(0, 1), routing.experts, len(experts.w_in_EMH)
    if suits(x_BSM, experts):
        layout = padded_permutation(chosen, num_experts, x_BSM.dtype)
        y_TM = experts_cpu_kernel(x_TM, routing, experts, layout)
    else:
        layout = permutation(chosen, num_experts, fill(x_BSM))
        mixed = experts_loop if x_BSM.device.type == "cpu" else experts_grouped_mm
        y_TM = mixed(x_TM, routing, experts, layout)
    return Dispatched(y_TM.view_as(x_BSM), dropped=routing.gates.new_zeros(()))
