"""What an engine replaces in a model: one value, given to the model. The default is one device."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from glam.config import ModelConfig
from glam.model.attention.attention import Einsum
from glam.model.layer_runner import LayerRunner
from glam.model.loss import WHOLE, LossSplit
from glam.model.moe.balance import Mean, over_tokens
from glam.model.moe.dispatch import Dispatcher, dispatcher
from glam.model.vocabulary import IN_ONE_PIECE, Vocabulary


@dataclass(frozen=True, kw_only=True)
class Backend:
    """The parts of a model that an engine may replace."""

    run_layers: LayerRunner | None = None  # None: one after another, rematerialized if asked for
    mean_over_tokens: Mean = over_tokens  # over the whole batch, for the balance loss
    dispatcher: Callable[[ModelConfig], Dispatcher] = dispatcher  # from tokens to experts and back
    einsum: Einsum = torch.einsum  # the products of attention
    loss_split: LossSplit = WHOLE  # the pieces in which logits are computed
    vocabulary: Vocabulary = IN_ONE_PIECE  # the look-up of tokens, logits and their losses
    # Whether every call brings the same shapes, on all processes: an even exchange needs that.
    one_shape: bool = False


ONE_DEVICE = Backend()
