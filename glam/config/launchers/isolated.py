"""Processes of this machine."""

from dataclasses import dataclass
from typing import ClassVar

from glam.config.launchers.base import LAUNCHERS, LauncherConfig


@LAUNCHERS.register
@dataclass(kw_only=True)
class IsolatedConfig(LauncherConfig):
    """The default: every run a process of this machine, as many at once as it carries."""

    launcher: ClassVar[str] = "isolated"
