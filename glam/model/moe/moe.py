"""The MoE layer, in place of a feed-forward (paper, section 4)."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from glam.config import ModelConfig
from glam.model.moe.balance import Mean, over_tokens
from glam.model.moe.dispatch import Dispatcher, dispatcher
from glam.model.moe.experts import Experts
from glam.model.moe.router import Router, expert_shares


class MoEOutput(NamedTuple):
    """The output of an MoE layer, and its statistics as of `GlamOutput`."""

    y: Float[Tensor, "B S M"]
    balance_loss: Float[Tensor, ""]
    load: Float[Tensor, "E"]
    dropped: Float[Tensor, ""]


class MixtureOfExperts(nn.Module):
    """y = sum over a token's `top_k` experts of gate * expert(x) (paper, section 4)."""

    def __init__(
        self,
        config: ModelConfig,
        dispatch: Dispatcher | None = None,
        mean_over_tokens: Mean = over_tokens,
        in_evaluation: Dispatcher | None = None,
    ) -> None:
        """`in_evaluation`: the dispatcher outside training, where it is another one."""
        super().__init__()
        self.router = Router(config, mean_over_tokens)
        self.experts = Experts(config.num_experts, config.d_model, config.d_ff)
        self.dispatch = dispatch or dispatcher(config)
        self._in_evaluation = in_evaluation

    def forward(self, x_BSM: Float[Tensor, "B S M"]) -> MoEOutput:
        routing, balance_loss = self.router(x_BSM.flatten(0, 1))
        other = None if self.training else self._in_evaluation
        y_BSM, dropped = (other or self.dispatch)(x_BSM, routing, self.experts)
        return MoEOutput(y_BSM, balance_loss, expert_shares(routing), dropped)
