"""Launchers, a file each: where the cells of a grid run (`hydra/launcher`), and the keys of each
(`hydra.launcher.…`). A file that is added here is found; `docs/extend.md` shows one. Those that
come with glam are made by `glam.studies.launchers`."""

from glam.config.launchers.base import LAUNCHERS, LauncherConfig
from glam.config.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["LAUNCHERS", "LauncherConfig"]
