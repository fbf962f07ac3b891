"""The dropless dispatcher: tokens sorted by expert, and no choice dropped."""

from jaxtyping import Float
from torch import Tensor

from glam.model.moe.experts import Experts
from glam.model.moe.experts_cpu_kernel import (
    experts_cpu_kernel,
    kernel_supported,
    padded_permutation,
)
from glam.model.moe.experts_grouped_mm import experts_grouped_mm
from glam.model.moe.experts_loop import experts_loop
from glam.model.moe.permutation import permutation, row_padding, static_permutation
from glam.model.moe.routing import Dispatched, Routing


def grouped(x_BSM: Float[Tensor, "B S M"], routing: Routing, experts: Experts) -> Dispatched:
    """Chooses the form of the experts by device, type and size: kernel, loop or `grouped_mm`."""
    if x_BSM.device.type != "cpu":
        return grouped_static(x_BSM, routing, experts)
    x_TM, chosen, num_experts = x_BSM.flatten(0, 1), routing.experts, len(experts.w_in_EMH)
    if kernel_supported(x_BSM, experts):
        layout = padded_permutation(chosen, num_experts, x_BSM.dtype)
        y_TM = experts_cpu_kernel(x_TM, routing, experts, layout)
    else:
        layout = permutation(chosen, num_experts, row_padding(x_BSM))
        y_TM = experts_loop(x_TM, routing, experts, layout)
    return Dispatched(y_TM.view_as(x_BSM), dropped=routing.gates.new_zeros(()))


def grouped_static(x_BSM: Float[Tensor, "B S M"], routing: Routing, experts: Experts) -> Dispatched:
    """`grouped` by `grouped_mm`, on a GPU: the same program whatever the routing."""
    layout = static_permutation(routing.experts, len(experts.w_in_EMH))
    y_TM = experts_grouped_mm(x_BSM.flatten(0, 1), routing, experts, layout)
    return Dispatched(y_TM.view_as(x_BSM), dropped=routing.gates.new_zeros(()))
