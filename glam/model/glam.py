"""The decoder-only language model of GLaM."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glam.config import ModelConfig
from glam.model.attention.attention import Attention, Mask
from glam.model.backend import ONE_DEVICE, Backend
from glam.model.compiled import is_compiled
from glam.model.feed_forward import FeedForward, GatedFeedForward
from glam.model.init import initialize
from glam.model.layer_runner import run_layers
from glam.model.moe.dispatch import in_evaluation
from glam.model.moe.moe import MixtureOfExperts, MoEOutput
from glam.model.moe.router import Router
from glam.model.norm import RMSNorm
from glam.model.rematerialize import called, rematerialized
from glam.model.vocabulary import Vocabulary


class GlamOutput(NamedTuple):
    """Logits, and statistics of the L MoE layers.

    `balance_loss` is the sum over layers, times its coefficient. `load` is each expert's share of
    the choices, before any is dropped: a layer's shares sum to 1. `dropped` is the share of choices
    that found no capacity slot.
    """

    logits: Float[Tensor, "B S V"]
    balance_loss: Float[Tensor, ""]
    load: Float[Tensor, "L E"]
    dropped: Float[Tensor, "L"]


class LossOutput(NamedTuple):
    """Cross-entropy in nats: `loss` is the mean, with a gradient; `token_losses` has none. The
    statistics are those of `GlamOutput`."""

    loss: Float[Tensor, ""]
    token_losses: Float[Tensor, "B S"]
    balance_loss: Float[Tensor, ""]
    load: Float[Tensor, "L E"]
    dropped: Float[Tensor, "L"]


class Embedding(nn.Module):
    """Token embedding, scaled by sqrt(M) and tied to the output softmax."""

    def __init__(self, vocab_size: int, d_model: int, vocabulary: Vocabulary) -> None:
        super().__init__()
        self._vocabulary = vocabulary
        self.w_VM = nn.Parameter(torch.empty(vocab_size, d_model))

    def forward(self, tokens: Int[Tensor, "B S"]) -> Float[Tensor, "B S M"]:
        return self._vocabulary.embed(tokens, self.w_VM) * self.w_VM.shape[1] ** 0.5


class Layer(nn.Module):
    """Pre-norm attention, then a pre-norm MoE layer or feed-forward, each with a residual."""

    def __init__(self, config: ModelConfig, index: int, backend: Backend) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model)
        self.attention = Attention(config, backend.einsum)
        self.ffn_norm = RMSNorm(config.d_model)
        self.ffn = _feed_forward(config, index, backend)

    def forward(
        self, x: Float[Tensor, "B S M"], mask: Mask
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
        evaluated = in_evaluation(config, backend.dispatcher)
        return MixtureOfExperts(
            config, backend.dispatcher(config), backend.mean_over_tokens, evaluated
        )
    return FeedForward(config.d_model, config.top_k * config.d_ff)


class Glam(nn.Module):
    """A GLaM language model (arXiv 2112.06905, section 4). Parameters are float32.

    `dtype` is the type of the activations. `rematerialize` keeps the inputs of the layers alone and
    computes each layer again in the backward pass. `backend` is what an engine replaces.
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
        self._vocabulary, self._one_shape = backend.vocabulary, backend.one_shape
        self._loss_split = backend.loss_split
        self.embedding = Embedding(config.vocab_size, config.d_model, self._vocabulary)
        self.layers = nn.ModuleList(
            Layer(config, index, backend) for index in range(config.num_layers)
        )
        self.norm = RMSNorm(config.d_model)
        self.initialize(0)

    @classmethod
    def from_run(cls, path: str | Path, *, dtype: torch.dtype = torch.float32) -> "Glam":
        """The trained model of a run folder, in evaluation mode, from its newest undamaged
        checkpoint.

        Raises UserError where the folder holds none.
        """
        # Imported late: only loading a run needs the readers.
        from glam.model.saved import saved_config, saved_weights

        with torch.device("meta"):
            model = cls(saved_config(Path(path)), dtype=dtype)
        model.load_state_dict(saved_weights(Path(path)), assign=True)
        return model.eval()

    @property
    def one_shape(self) -> bool:
        """Whether texts are filled up to one shape, whatever their number and lengths: where a
        compiler makes a program for each shape, and where processes exchange equal parts."""
        return self._one_shape or is_compiled(self.norm.scale_M.device)

    def initialize(self, seed: int) -> None:
        """Draw every parameter anew. The dense weights do not depend on `num_experts`."""
        initialize(self, seed)

    @property
    def routers(self) -> list[Router]:
        """Those of its MoE layers, in order."""
        return [part for part in self.modules() if isinstance(part, Router)]

    @property
    def biases_of_choice(self) -> list[nn.Parameter]:
        """What training moves without a gradient."""
        found = (router.bias_of_choice_E for router in self.routers)
        return [bias for bias in found if bias is not None]

    def move_biases(self, load_LE: Float[Tensor, "L E"]) -> None:
        """After a training step: see `Router.move_bias`. `load_LE` is the whole batch's."""
        for router, load_E in zip(self.routers, load_LE, strict=False):
            router.move_bias(load_E)

    def use_experts_above(self, threshold: float) -> None:
        """Outside training, use an expert after a token's first only where its gate exceeds
        `threshold`; its gate is then not given to the others. Below 0: use all, as in training."""
        for router in self.routers:
            router.active_threshold = threshold

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        end: int,
        max_tokens: int = 100,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        beams: int = 1,
        length_penalty: float = 1.0,
    ) -> list[list[int]]:
        """The tokens that follow each prompt, up to the token `end`, which is left out. With
        `temperature` 0 the likeliest each time, or the best text of a search `beams` wide, whose
        log-probability is divided by its length ** `length_penalty`; else drawn, by `seed`, from
        the likeliest tokens that have probability `top_p` together."""
        # Imported late: decoders import this module.
        from glam.model.decoding.beam import Beams, LengthPenalty
        from glam.model.decoding.continue_tokens import continue_tokens
        from glam.model.decoding.sampling import Sampling

        drawn = Sampling(temperature, top_p, seed)
        search = Beams(beams, LengthPenalty(length_penalty)) if beams > 1 else drawn
        return continue_tokens(self, prompts, max_tokens=max_tokens, end=end, search=search)

    def forward(
        self, tokens: Int[Tensor, "B S"], segments: Int[Tensor, "B S"] | None = None
    ) -> GlamOutput:
        """Logits of the next token at every position. `segments` numbers the documents packed into
        a row: attention stays within a document."""
        x_BSM, statistics = self._decode(tokens, segments)
        weight, cap = self.embedding.w_VM, self.config.logit_cap
        logits = self._vocabulary.logits(x_BSM.flatten(0, 1), weight, cap)
        return GlamOutput(logits.unflatten(0, tokens.shape), *self._stack_statistics(statistics))

    def loss(
        self,
        tokens: Int[Tensor, "B S"],
        targets: Int[Tensor, "B S"],
        segments: Int[Tensor, "B S"] | None = None,
    ) -> LossOutput:
        """Cross-entropy with `targets`, the next tokens; the logits are not kept in memory."""
        x_BSM, statistics = self._decode(tokens, segments)
        losses = self._vocabulary.losses(
            x_BSM.flatten(0, 1),
            self.embedding.w_VM,
            targets.flatten(),
            self.config.logit_cap,
            self._loss_split,
        )
        return LossOutput(
            losses.mean, losses.each.view_as(targets), *self._stack_statistics(statistics)
        )

    def _decode(
        self, tokens: Int[Tensor, "B S"], segments: Int[Tensor, "B S"] | None
    ) -> tuple[Float[Tensor, "B S M"], list[MoEOutput]]:
        x = self.embedding(tokens).to(self.dtype)
        x, statistics = self._run_layers(self.layers, x, segments)
        return self.norm(x), statistics

    def _stack_statistics(self, statistics: list[MoEOutput]) -> tuple[Tensor, Tensor, Tensor]:
        weight = self.norm.scale_M
        if not statistics:  # a dense twin counts as the only expert of its layer
            load = weight.new_ones(self.config.num_moe_layers, self.config.num_experts)
            return weight.new_zeros(()), load, load.new_zeros(len(load))
        return (
            torch.stack([layer.balance_loss for layer in statistics]).sum(),
            torch.stack([layer.load for layer in statistics]),
            torch.stack([layer.dropped for layer in statistics]),
        )
