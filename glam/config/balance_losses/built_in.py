"""The balance losses that `glam.model.moe.balance` computes."""

from typing import ClassVar

from glam.config.balance_losses.base import BALANCE_LOSSES, BalanceLossConfig


@BALANCE_LOSSES.register
class NoBalanceLoss(BalanceLossConfig):
    """Zero."""

    name: ClassVar[str] = "none"


@BALANCE_LOSSES.register
class EntropyLoss(BalanceLossConfig):
    """Negative entropy of the mean gate."""

    name: ClassVar[str] = "entropy"


@BALANCE_LOSSES.register
class GshardLoss(BalanceLossConfig):
    """GShard's loss, as in the paper: share of first choices times mean gate."""

    name: ClassVar[str] = "gshard"


@BALANCE_LOSSES.register
class ZLoss(BalanceLossConfig):
    """ST-MoE's z-loss: squared log-partition of the gate."""

    name: ClassVar[str] = "z_loss"


@BALANCE_LOSSES.register
class LossFree(BalanceLossConfig):
    """No loss: a bias of the choice, moved towards the mean load after every step."""

    name: ClassVar[str] = "loss_free"
    moves_bias: ClassVar[bool] = True
