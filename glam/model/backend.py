"""What an engine changes in a model, as one value given to it. The default is one device."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from glam.config import ModelConfig
from glam.model.attention.attention import Einsum
from glam.model.layer_runner import LayerRunner
from glam.model.loss import WHOLE, LossSplit
from glam.model.moe.balance import Mean, over_tokens
from glam.model.moe.dispatch import Dispatcher, dispatcher


@dataclass(frozen=True, kw_only=True)
class Backend:
    """`run_layers` None: one layer after another, rematerialized where the model is asked to."""

    run_layers: LayerRunner | None = None
    mean_over_tokens: Mean = over_tokens  # of the whole batch, for the balance loss
    dispatcher: Callable[[ModelConfig], Dispatcher] = dispatcher  # how rows travel to experts
    einsum: Einsum = torch.einsum  # of attention
    loss_split: LossSplit = WHOLE  # how the logits are split


ONE_DEVICE = Backend()
