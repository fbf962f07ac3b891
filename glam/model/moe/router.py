"""The router of an MoE layer: a token's experts and their gates (paper, section 4)."""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glam import kernels
from glam.config import ModelConfig
from glam.model.moe.balance import Mean, balance_loss, over_tokens, towards_even
from glam.model.moe.routing import Routing
from glam.model.precision import at_least_float32


def top_k_experts(logits_TE: Float[Tensor, "T E"], top_k: int) -> Int[Tensor, "T K"]:
    """The `top_k` experts of the highest logits, the highest first."""
    remaining = logits_TE.detach()
    chosen: list[Tensor] = []  # torch.compile knows no `list[Tensor]()`
    for _ in range(top_k):  # a few passes of argmax are cheaper than a sort
        chosen.append(remaining.argmax(-1, keepdim=True))
        remaining = remaining.scatter(-1, chosen[-1], -torch.inf)
    return torch.cat(chosen, -1)


def biased_experts(
    logits_TE: Float[Tensor, "T E"], bias_E: Float[Tensor, "E"], top_k: int
) -> Int[Tensor, "T K"]:
    """The `top_k` experts of the highest sums of logit and bias, the highest logit first."""
    chosen_TK = top_k_experts(logits_TE + bias_E, top_k)
    order_TK = top_k_experts(logits_TE.gather(-1, chosen_TK), top_k)
    return chosen_TK.gather(-1, order_TK)


def route(
    logits_TE: Float[Tensor, "T E"],
    top_k: int,
    normalize: bool,
    bias_E: Float[Tensor, "E"] | None = None,
) -> tuple[Int[Tensor, "T K"], Float[Tensor, "T K"], Float[Tensor, "T E"]]:
    """The `top_k` experts of each token, their gates, and the probabilities of all experts.

    Gates are the softmax of the chosen logits where `normalize`, else the chosen probabilities. A
    bias is added to the logits for the choice alone.
    """
    probabilities_TE = logits_TE.softmax(-1)
    if bias_E is None:
        experts_TK = top_k_experts(logits_TE, top_k)
    else:
        experts_TK = biased_experts(logits_TE, bias_E, top_k)
    if normalize:
        # The softmax of the chosen logits: the same as dividing the gates by their sum.
        gates_TK = logits_TE.gather(-1, experts_TK).softmax(-1)
    else:
        gates_TK = probabilities_TE.gather(-1, experts_TK)
    return experts_TK, gates_TK, probabilities_TE


class RouteKernel(torch.autograd.Function):
    """`route` by a CPU kernel, forward and backward."""

    @staticmethod
    def forward(
        ctx: Any, logits_TE: Tensor, top_k: int, normalize: bool, bias_E: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits_TE = logits_TE.contiguous()
        (T, E), probabilities = logits_TE.shape, torch.empty_like(logits_TE)
        experts = logits_TE.new_empty(T, top_k, dtype=torch.int64)
        gates = logits_TE.new_empty(T, top_k)
        ctx.sizes = (T, E, top_k, normalize)
        kernels.call("route", logits_TE, bias_E, experts, gates, probabilities, *ctx.sizes)
        ctx.save_for_backward(experts, gates, probabilities)
        ctx.mark_non_differentiable(experts)
        return experts, gates, probabilities

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        experts, gates, probabilities = ctx.saved_tensors
        _, d_gates, d_probabilities = grads
        d_probabilities = d_probabilities.contiguous().clone()  # overwritten by the kernel
        d_logits = torch.empty_like(probabilities)
        arrays = (d_probabilities, experts, gates, probabilities, d_logits)
        kernels.call("route_backward", d_gates.contiguous(), *arrays, *ctx.sizes)
        return d_logits, None, None, None


def route_by_kernel(
    logits_TE: Float[Tensor, "T E"],
    top_k: int,
    normalize: bool,
    bias_E: Float[Tensor, "E"] | None = None,
) -> tuple[Int[Tensor, "T K"], Float[Tensor, "T K"], Float[Tensor, "T E"]]:
    """`route`, for float32 logits that the kernel supports."""
    routed = RouteKernel.apply(logits_TE, top_k, normalize, bias_E)  # pyright: ignore
    return cast(tuple[Tensor, Tensor, Tensor], routed)


def use_second_at_random(gates_TK: Float[Tensor, "T K"], threshold: float) -> Float[Tensor, "T K"]:
    """GShard's policy (arXiv 2006.16668): a choice after the first is used with probability
    min(1, gate / threshold); the gate of an unused choice is 0."""
    used = torch.rand_like(gates_TK) * threshold < gates_TK
    used[:, 0] = True
    return gates_TK * used


def use_above(gates_TK: Float[Tensor, "T K"], threshold: float) -> Float[Tensor, "T K"]:
    """A choice after the first is used only where its gate exceeds `threshold`; the other gates
    stay as they are."""
    used = gates_TK > threshold
    used[:, 0] = True
    return gates_TK * used


def expert_shares(routing: Routing) -> Float[Tensor, "E"]:
    """Each expert's share of the choices with a gate above 0."""
    used = (routing.gates.detach() > 0).to(routing.gates.dtype)
    counts_E = used.new_zeros(routing.probabilities.shape[1])
    counts_E.scatter_add_(0, routing.experts.flatten(), used.flatten())
    return counts_E / counts_E.sum()


class Router(nn.Module):
    """The router of one MoE layer; `mean_over_tokens` averages over the whole batch.

    With `balance_loss=loss_free` it has a bias that is added to the logits for the choice of
    experts, not for their gates (Wang et al. 2024, arXiv 2408.15664). The paper adds it to what the
    gate makes of the logits; of a softmax that is the same order as here, where
    a bias b is a factor exp(b) of the probability.

    `active_threshold`, below 0 where there is none, is for a trained model that is to use fewer
    experts: see `use_above`. Training does not know it.
    """

    active_threshold = -1.0

    def __init__(self, config: ModelConfig, mean_over_tokens: Mean = over_tokens) -> None:
        super().__init__()
        self.config, self.top_k = config.router, config.top_k
        self._mean, self._balance_loss = mean_over_tokens, balance_loss(self.config.balance_loss)
        self.w_ME = nn.Parameter(torch.empty(config.d_model, config.num_experts))
        self.bias_E = nn.Parameter(torch.zeros(config.num_experts))
        # A parameter like others to whatever saves, places or fills them; no optimizer sees it.
        moved = nn.Parameter(torch.zeros(config.num_experts), requires_grad=False)
        self.bias_of_choice_E = moved if self.config.moves_bias else None

    def forward(self, x_TM: Float[Tensor, "T M"]) -> tuple[Routing, Float[Tensor, ""]]:
        """The routing of `x`, and the balance loss of the layer times its coefficient."""
        logits_TE = torch.addmm(self.bias_E, at_least_float32(x_TM), self.w_ME)
        routing = self.route(logits_TE)
        loss = self._balance_loss(logits_TE, routing, self._mean)
        return routing, self.config.balance_coefficient * loss

    @torch.no_grad()
    def move_bias(self, load_E: Float[Tensor, "E"]) -> None:
        """Move the bias of the choice, where there is one, by `bias_rate` against the load of a
        step: each expert's share of the whole batch's choices."""
        if self.bias_of_choice_E is not None:
            step_E = towards_even(load_E).to(self.bias_of_choice_E.dtype)
            self.bias_of_choice_E.add_(step_E, alpha=self.config.bias_rate)

    def route(self, logits_TE: Float[Tensor, "T E"]) -> Routing:
        """The routing by these logits. In training, the random policy may leave choices unused."""
        bias_E = self.bias_of_choice_E
        given = (logits_TE,) if bias_E is None else (logits_TE, bias_E)
        choose = route_by_kernel if kernels.is_float32(*given) else route
        experts_TK, gates_TK, probabilities_TE = choose(
            logits_TE, self.top_k, self.config.normalize, bias_E
        )
        if self.training and self.config.second_policy == "random":
            gates_TK = use_second_at_random(gates_TK, self.config.second_threshold)
        if not self.training and self.active_threshold >= 0:
            gates_TK = use_above(gates_TK, self.active_threshold)
        return Routing(experts_TK, gates_TK, probabilities_TE)
