"""Balance losses by name (`model.router.balance_loss`). A file that is added here is found;
`docs/extend.md` shows one. Those that come with glam are computed by `glam.model.moe.balance`."""

from glam.config.balance_losses.base import BALANCE_LOSSES, BalanceLossConfig
from glam.config.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["BALANCE_LOSSES", "BalanceLossConfig"]
