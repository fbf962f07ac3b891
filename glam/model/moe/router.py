"""The gate of an MoE layer: which experts see a token, and with what weight."""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glam import kernels
from glam.config import ModelConfig
from glam.model.moe.balance import Mean, balance_loss, over_tokens
from glam.model.moe.routing import Routing
from glam.model.precision import at_least_float32


def top_k_experts(logits_TE: Float[Tensor, "T E"], top_k: int) -> Int[Tensor, "T K"]:
    """The `top_k` experts of the highest logits, the highest first."""
    remaining, chosen = logits_TE.detach(), list[Tensor]()
    for _ in range(top_k):  # a few passes of argmax are cheaper than a sort
        chosen.append(remaining.argmax(-1, keepdim=True))
        remaining = remaining.scatter(-1, chosen[-1], -torch.inf)
    return torch.cat(chosen, -1)


def routes(
    logits_TE: Float[Tensor, "T E"], top_k: int, normalize: bool
) -> tuple[Int[Tensor, "T K"], Float[Tensor, "T K"], Float[Tensor, "T E"]]:
    """Experts, their gates and the probabilities of all."""
    probabilities_TE = logits_TE.softmax(-1)
    experts_TK = top_k_experts(logits_TE, top_k)
    if normalize:
        # The softmax of the chosen logits: the same as dividing the gates by their sum.
        gates_TK = logits_TE.gather(-1, experts_TK).softmax(-1)
    else:
        gates_TK = probabilities_TE.gather(-1, experts_TK)
    return experts_TK, gates_TK, probabilities_TE


class RouteInOnePass(torch.autograd.Function):
    """`routes` by kernels of our own."""

    @staticmethod
    def forward(
        ctx: Any, logits_TE: Tensor, top_k: int, normalize: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits_TE = logits_TE.contiguous()
        (T, E), probabilities = logits_TE.shape, torch.empty_like(logits_TE)
        experts = logits_TE.new_empty(T, top_k, dtype=torch.int64)
        gates = logits_TE.new_empty(T, top_k)
        ctx.sizes = (T, E, top_k, normalize)
        kernels.call("route", logits_TE, experts, gates, probabilities, *ctx.sizes)
        ctx.save_for_backward(experts, gates, probabilities)
        ctx.mark_non_differentiable(experts)
        return experts, gates, probabilities

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        experts, gates, probabilities = ctx.saved_tensors
        _, d_gates, d_probabilities = grads
        d_probabilities = d_probabilities.contiguous().clone()  # which the kernel writes over
        d_logits = torch.empty_like(probabilities)
        arrays = (d_probabilities, experts, gates, probabilities, d_logits)
        kernels.call("route_backward", d_gates.contiguous(), *arrays, *ctx.sizes)
        return d_logits, None, None


def routes_in_one_pass(
    logits_TE: Float[Tensor, "T E"], top_k: int, normalize: bool
) -> tuple[Int[Tensor, "T K"], Float[Tensor, "T K"], Float[Tensor, "T E"]]:
    made = RouteInOnePass.apply(logits_TE, top_k, normalize)  # pyright: ignore
    return cast(tuple[Tensor, Tensor, Tensor], made)


def use_at_random(gates_TK: Float[Tensor, "T K"], threshold: float) -> Float[Tensor, "T K"]:
    """GShard's policy: a choice after the first is made with probability min(1, g / threshold)."""
    made = torch.rand_like(gates_TK) * threshold < gates_TK
    made[:, 0] = True
    return gates_TK * made


def expert_shares(routing: Routing) -> Float[Tensor, "E"]:
    """Each expert's share of all choices made."""
    made = (routing.gates.detach() > 0).to(routing.gates.dtype)
    counts_E = made.new_zeros(routing.probabilities.shape[1])
    counts_E.scatter_add_(0, routing.experts.flatten(), made.flatten())
    return counts_E / counts_E.sum()


class Router(nn.Module):
    """The gate of one MoE layer; `mean_over_tokens` is over the whole batch."""

    def __init__(self, config: ModelConfig, mean_over_tokens: Mean = over_tokens) -> None:
        super().__init__()
        self.config, self.top_k = config.router, config.top_k
        self._mean, self._balance_loss = mean_over_tokens, balance_loss(self.config.balance_loss)
        self.w_ME = nn.Parameter(torch.empty(config.d_model, config.num_experts))
        self.bias_E = nn.Parameter(torch.zeros(config.num_experts))

    def forward(self, x_TM: Float[Tensor, "T M"]) -> tuple[Routing, Float[Tensor, ""]]:
        """The routing of `x`, and the layer's balance loss times its coefficient."""
        logits_TE = torch.addmm(self.bias_E, at_least_float32(x_TM), self.w_ME)
        routing = self.route(logits_TE)
        loss = self._balance_loss(logits_TE, routing, self._mean)
        return routing, self.config.balance_coefficient * loss

    def route(self, logits_TE: Float[Tensor, "T E"]) -> Routing:
        kernel = kernels.supported(logits_TE) and logits_TE.dtype == torch.float32
        choose = routes_in_one_pass if kernel else routes
        experts_TK, gates_TK, probabilities_TE = choose(
            logits_TE, self.top_k, self.config.normalize
        )
        if self.training and self.config.second_policy == "random":
            gates_TK = use_at_random(gates_TK, self.config.second_threshold)
        return Routing(experts_TK, gates_TK, probabilities_TE)
