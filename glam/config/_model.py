"""The shape of a model, and its parameters and FLOPs."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from glam.config._checks import (
    LARGEST_SIZE,
    choice_of,
    divisors,
    not_in_identity,
    plain_name,
    positive,
    within,
)
from glam.config.balance_losses import BALANCE_LOSSES
from glam.config.dispatchers import DISPATCHERS, DispatcherConfig
from glam.errors import UserError, one_of


@dataclass(kw_only=True)
class RouterConfig:
    """The gate of an MoE layer (paper section 4; GShard's details where the paper follows it)."""

    normalize: bool = True  # divide the gates of the k chosen experts by their sum, as GShard does
    # use of the second expert: always | random (with probability min(1, gate / second_threshold))
    second_policy: str = "always"
    second_threshold: float = 0.2  # [gate] from which a random second expert is always used
    balance_loss: str = choice_of(BALANCE_LOSSES, "gshard")  # load-balancing loss
    balance_coefficient: float = 0.01  # weight of the load-balancing loss
    bias_rate: float = 0.03  # [logits] that balance_loss=loss_free moves a bias in a step

    def __post_init__(self) -> None:
        one_of("model.router.second_policy", self.second_policy, ("always", "random"))
        one_of("model.router.balance_loss", self.balance_loss, BALANCE_LOSSES)
        positive("model.router.", self, "second_threshold")
        within("model.router.", self, 0, 1e6, "balance_coefficient", "bias_rate")

    @property
    def moves_bias(self) -> bool:
        """Whether a bias without a gradient takes part in the choice of experts."""
        return BALANCE_LOSSES[self.balance_loss].moves_bias


@dataclass(kw_only=True)
class ModelConfig:
    """The shape of a GLaM decoder (paper table 4). `num_experts=1` is the dense twin: each MoE
    layer becomes a feed-forward of hidden size `top_k * d_ff`, the same active FLOPs."""

    name: str = not_in_identity("glam_tiny")  # for people: names of runs, titles of figures
    vocab_size: int = 2048  # [tokens] of the vocabulary
    num_layers: int = 4  # [layers] of the decoder
    d_model: int = 64  # width of the residual stream
    d_ff: int = 256  # hidden size of a feed-forward, and of an expert
    num_heads: int = 4  # attention heads of a layer
    d_head: int | None = None  # size of an attention head; null: d_model / num_heads
    num_experts: int = 16  # experts of an MoE layer; 1: the dense twin
    top_k: int = 2  # experts that each token is sent to
    moe_every: int = 2  # one layer in this many is MoE: 2 is layers 1, 3, 5, …; 0: none
    # how tokens reach experts: grouped is dropless, capacity has static shapes and drops tokens
    dispatcher: str = choice_of(DISPATCHERS, "grouped")
    capacity_factor: float = 2.0  # [ratio] slots of an expert over a perfectly even load
    min_capacity: int = 4  # [slots] least of an expert
    # who gets the slots of a full expert: position (the earlier tokens of a row) | gate (those of
    # the highest gates, which looks ahead: nothing is dropped outside training)
    priority: str = "position"
    drop_in_evaluation: bool = True  # whether held-out text is judged with dropped tokens
    position_buckets: int = 32  # buckets of the relative position bias, as T5's
    position_max_distance: int = 128  # [tokens] from which all distances share the last bucket
    logit_cap: float | None = None  # logits become cap * tanh(logits / cap); null: no cap
    # weights to begin with: a run, or a folder that task=export wrote; null: drawn by the seed.
    # A dense run gives its feed-forwards to the experts of a sparse one
    init_from: str | None = not_in_identity(None)
    # content that init_from has to have; null: what it has now, which is recorded here
    init_digest: str | None = None
    router: RouterConfig = field(default_factory=RouterConfig)

    def __post_init__(self) -> None:
        plain_name("model.name", self.name)
        positive("model.", self, "num_layers", "capacity_factor", "logit_cap")
        within("model.", self, 1, 100_000, "num_layers")
        sizes = ("vocab_size", "d_model", "d_ff", "num_heads", "num_experts", "top_k")
        within("model.", self, 1, LARGEST_SIZE, *sizes, "min_capacity")
        within("model.", self, 1, LARGEST_SIZE, *(["d_head"] if self.d_head is not None else []))
        within("model.", self, 0, LARGEST_SIZE, "moe_every")
        within("model.", self, 2, 10_000_000, "position_buckets", "position_max_distance")
        one_of("model.dispatcher", self.dispatcher, DISPATCHERS)
        one_of("model.priority", self.priority, ("position", "gate"))
        if self.d_head is None and self.d_model % self.num_heads:
            raise UserError(
                f"model.num_heads={self.num_heads} does not divide model.d_model={self.d_model}; "
                f"try {_divisors_near(self.d_model, self.num_heads)}, or set model.d_head"
            )
        if self.is_sparse and self.top_k > self.num_experts:
            raise UserError(
                f"model.top_k={self.top_k} but model.num_experts={self.num_experts}; "
                f"set model.num_experts={self.top_k} or more, or 1 for the dense twin"
            )
        if self.init_digest is not None and self.init_from is None:
            raise UserError(
                f"model.init_digest={self.init_digest} is the content of model.init_from, which is "
                f"null; leave it out"
            )
        if self.position_buckets < 2 or self.position_max_distance <= self.position_buckets // 2:
            raise UserError(
                f"model.position_buckets={self.position_buckets} needs at least 2 buckets and "
                f"model.position_max_distance={self.position_max_distance} above half of them"
            )

    @property
    def dispatcher_config(self) -> DispatcherConfig:
        """What the registry says of `dispatcher`."""
        return DISPATCHERS[self.dispatcher]()

    @property
    def drops_in_evaluation(self) -> bool:
        """Whether tokens may be dropped outside training."""
        return self.drop_in_evaluation and self.priority == "position"

    @property
    def is_sparse(self) -> bool:
        return self.num_experts > 1 and self.moe_every > 0

    @property
    def moves_bias(self) -> bool:
        """Whether the choice of experts has a bias that training moves without a gradient."""
        return self.is_sparse and self.router.moves_bias

    @property
    def head_size(self) -> int:
        return self.d_head if self.d_head is not None else self.d_model // self.num_heads

    def is_moe_layer(self, index: int) -> bool:
        """Whether layer `index` (from 0) holds experts, or their dense twin."""
        return self.moe_every > 0 and (index + 1) % self.moe_every == 0

    def slots_per_expert(self, tokens: int) -> int:
        """Capacity of an expert for a sequence of `tokens`: at most all of them."""
        wanted = math.ceil(self.capacity_factor * self.top_k * tokens / self.num_experts)
        return min(tokens, max(self.min_capacity, wanted))

    @property
    def num_moe_layers(self) -> int:
        return self.num_layers // self.moe_every if self.moe_every else 0

    @property
    def num_embedding_params(self) -> int:
        return self.vocab_size * self.d_model

    @property
    def num_params(self) -> int:
        """All parameters but the embedding's, as the paper counts."""
        return self._num_params(self.num_experts)

    @property
    def num_active_params(self) -> int:
        """Parameters that one token uses: `top_k` experts and the whole gate."""
        return self._num_params(min(self.top_k, self.num_experts))

    def _num_params(self, experts: int) -> int:
        attention = 4 * self.d_model * self.num_heads * self.head_size
        attention += self.position_buckets * self.num_heads
        every_layer = attention + 2 * self.d_model  # two norms
        dense_layers = self.num_layers - self.num_moe_layers
        total = self.num_layers * every_layer + self.d_model  # and the last norm
        total += dense_layers * 3 * self.d_model * self.d_ff
        hidden = self.d_ff * (experts if self.is_sparse else self.top_k)
        # The router's matrix and bias, and the bias of the choice, which has no gradient.
        gate = (self.d_model + 1 + self.moves_bias) * self.num_experts if self.is_sparse else 0
        return total + self.num_moe_layers * (2 * self.d_model * hidden + gate)

    def flops_per_token(self, sequence_length: int) -> int:
        """Forward FLOPs for one token, all parts together."""
        return sum(self.flops_by_part(sequence_length))

    def flops_by_part(self, sequence_length: int) -> "FlopsByPart":
        """Forward FLOPs for one token of a full causal sequence: matrix products alone, two for a
        multiply-add, attention over (S + 1) / 2 positions on average."""
        width = self.num_heads * self.head_size
        MH, moe = self.d_model * self.d_ff, self.num_moe_layers
        experts = moe * 4 * MH * self.top_k  # the dense twin's two matrices cost as much
        dense = (self.num_layers - moe) * 6 * MH
        return FlopsByPart(
            attention=self.num_layers * (8 * self.d_model + 2 * (sequence_length + 1)) * width,
            feed_forward=dense if self.is_sparse else dense + experts,
            experts=experts if self.is_sparse else 0,
            gate=moe * 2 * self.d_model * self.num_experts if self.is_sparse else 0,
            output=2 * self.num_embedding_params,
        )


class FlopsByPart(NamedTuple):
    """Forward FLOPs per token of each part of the model, all layers together."""

    attention: int
    feed_forward: int
    experts: int
    gate: int
    output: int  # the embedding, on the way out


def _divisors_near(number: int, near: int) -> str:
    best = sorted(divisors(number), key=lambda d: abs(d - near))[:2]
    return " or ".join(str(d) for d in sorted(best))
