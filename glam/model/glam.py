"""The decoder."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from glam.config import ModelConfig
from glam.model.attention.attention import Attention
from glam.model.backend import ONE_DEVICE, Backend
from glam.model.feed_forward import FeedForward, GatedFeedForward
from glam.model.init import initialize
from glam.model.layer_runner import run_layers
from glam.model.loss import output_logits, token_losses
from glam.model.moe.moe import MixtureOfExperts, MoEOutput
from glam.model.norm import RMSNorm
from glam.model.rematerialize import called, rematerialized


class GlamOutput(NamedTuple):
    """Of L MoE layers: `balance_loss` is their sum, times its coefficient; `load` each expert's
    share of the choices made, before any is dropped (sums to 1); `dropped` their dropped share."""

    logits: Float[Tensor, "B S V"]
    balance_loss: Float[Tensor, ""]
    load: Float[Tensor, "L E"]
    dropped: Float[Tensor, "L"]


class LossOutput(NamedTuple):
    """Cross-entropy in nats: its mean, to train on, and that of every token, without a gradient;
    the rest as in `GlamOutput`."""

    loss: Float[Tensor, ""]
    token_losses: Float[Tensor, "B S"]
    balance_loss: Float[Tensor, ""]
    load: Float[Tensor, "L E"]
    dropped: Float[Tensor, "L"]


class Embedding(nn.Module):
    """Token vectors, scaled by sqrt(M) on the way in and shared with the output softmax."""

    def __init__(self, vocab_size: int, d_model: int) -> None:
        super().__init__()
        self.w_VM = nn.Parameter(torch.empty(vocab_size, d_model))

    def forward(self, tokens: Int[Tensor, "B S"]) -> Float[Tensor, "B S M"]:
        return functional.embedding(tokens, self.w_VM) * self.w_VM.shape[1] ** 0.5


class Layer(nn.Module):
    """Pre-norm attention, then experts or a feed-forward, each beside its residual."""

    def __init__(self, config: ModelConfig, index: int, backend: Backend) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model)
        self.attention = Attention(config, backend.einsum)
        self.ffn_norm = RMSNorm(config.d_model)
        self.ffn = _feed_forward(config, index, backend)

    def forward(
        self, x: Float[Tensor, "B S M"], mask: Float[Tensor, "B S S"] | None
    ) -> tuple[Float[Tensor, "B S M"], MoEOutput | None]:
        x = x + self.attention(self.attention_norm(x), mask)
        y = self.ffn(self.ffn_norm(x))
        if not isinstance(y, MoEOutput):
            return x + y, None
        return x + y.y, y._replace(y=x.new_empty(0))  # the statistics, without the output


def _feed_forward(config: ModelConfig, index: int, backend: Backend) -> nn.Module:
    if not config.is_moe_layer(index):
        return GatedFeedForward(config.d_model, config.d_ff)
    if config.is_sparse:
        return MixtureOfExperts(config, backend.dispatcher(config), backend.mean_over_tokens)
    return FeedForward(config.d_model, config.top_k * config.d_ff)


class Glam(nn.Module):
    """A GLaM language model (arXiv 2112.06905, section 4). Parameters are float32.

    `dtype` is that of the activations; `rematerialize` keeps one layer's activations at a time
    and computes them again in the backward pass; `backend` is what an engine brings.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        dtype: torch.dtype = torch.float32,
        rematerialize: bool = False,
        backend: Backend = ONE_DEVICE,
    ) -> None:
        super().__init__()
        self.config, self.dtype = config, dtype
        in_order = partial(run_layers, call=rematerialized if rematerialize else called)
        self._run_layers = backend.run_layers or in_order
        self._loss_split = backend.loss_split
        self.embedding = Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(
            Layer(config, index, backend) for index in range(config.num_layers)
        )
        self.norm = RMSNorm(config.d_model)
        self.initialize(0)

    @classmethod
    def from_run(cls, path: str | Path, *, dtype: torch.dtype = torch.float32) -> "Glam":
        """The trained model of a run folder, in evaluation mode, from its newest whole checkpoint.

        Raises UserError where the folder holds none.
        """
        # Only those who load a run need what reads it.
        from glam.model.saved import saved_config, saved_weights

        with torch.device("meta"):
            model = cls(saved_config(Path(path)), dtype=dtype)
        model.load_state_dict(saved_weights(Path(path)), assign=True)
        return model.eval()

    def initialize(self, seed: int) -> None:
        """Draw every parameter anew; the dense ones come out the same for every `num_experts`."""
        initialize(self, seed)

    def forward(
        self, tokens: Int[Tensor, "B S"], segments: Int[Tensor, "B S"] | None = None
    ) -> GlamOutput:
        """Logits for the token after each. `segments` numbers the documents packed into a row:
        a token sees its own document alone."""
        x_BSM, mixed = self._decode(tokens, segments)
        logits = output_logits(x_BSM.flatten(0, 1), self.embedding.w_VM, self.config.logit_cap)
        return GlamOutput(logits.unflatten(0, tokens.shape), *self._report(mixed))

    def loss(
        self,
        tokens: Int[Tensor, "B S"],
        targets: Int[Tensor, "B S"],
        segments: Int[Tensor, "B S"] | None = None,
    ) -> LossOutput:
        """The same without keeping the logits."""
        x_BSM, mixed = self._decode(tokens, segments)
        losses = token_losses(
            x_BSM.flatten(0, 1),
            self.embedding.w_VM,
            targets.flatten(),
            self.config.logit_cap,
            self._loss_split,
        )
        return LossOutput(losses.mean, losses.each.view_as(targets), *self._report(mixed))

    def _decode(
        self, tokens: Int[Tensor, "B S"], segments: Int[Tensor, "B S"] | None
    ) -> tuple[Float[Tensor, "B S M"], list[MoEOutput]]:
        x = self.embedding(tokens).to(self.dtype)
        x, mixed = self._run_layers(self.layers, x, segments)
        return self.norm(x), mixed

    def _report(self, mixed: list[MoEOutput]) -> tuple[Tensor, Tensor, Tensor]:
        weight = self.norm.scale_M
        if not mixed:  # the twin of a mixture is its only expert
            load = weight.new_ones(self.config.num_moe_layers, self.config.num_experts)
            return weight.new_zeros(()), load, load.new_zeros(len(load))
        return (
            torch.stack([layer.balance_loss for layer in mixed]).sum(),
            torch.stack([layer.load for layer in mixed]),
            torch.stack([layer.dropped for layer in mixed]),
        )
