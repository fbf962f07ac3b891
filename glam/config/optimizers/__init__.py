"""Optimizers, a file each: keys, ranges and what plans and engines know of them without torch.

A file that is added here is found; `docs/extend.md` shows one. AdamW and Adafactor are computed by
`glam.training.optimizers`, an optimizer of one's own by its `build`.
"""

from glam.config.optimizers.base import AUTO, OPTIMIZERS, OptimizerConfig
from glam.config.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["AUTO", "OPTIMIZERS", "OptimizerConfig"]
