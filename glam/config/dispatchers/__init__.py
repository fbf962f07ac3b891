"""Dispatchers by name (`model.dispatcher`): ways from tokens to experts and back. A file that is
added here is found; `docs/extend.md` shows one. Those that come with glam are computed by
`glam.model.moe.dispatch`."""

from glam.config.dispatchers.base import DISPATCHERS, DispatcherConfig
from glam.config.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["DISPATCHERS", "DispatcherConfig"]
