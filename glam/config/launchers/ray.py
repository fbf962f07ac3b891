"""Tasks of Ray."""

from dataclasses import dataclass
from typing import ClassVar

from glam.config.launchers.base import LAUNCHERS, LauncherConfig


@LAUNCHERS.register
@dataclass(kw_only=True)
class RayConfig(LauncherConfig):
    """Every run a task of Ray. What is None is what a run was counted to need."""

    launcher: ClassVar[str] = "ray"
    package: ClassVar[str | None] = "ray"
    extra: ClassVar[str | None] = "ray"

    address: str | None = None  # of a running cluster; None: RAY_ADDRESS, or a local Ray
    cpus_per_task: float | None = None  # [cores] of a run
    gpus_per_task: float | None = None  # [GPUs] of a run
    mem_gb: float | None = None  # [GB] of memory of a run
    max_retries: int = -1  # of a task whose process or machine was lost; -1: without a limit
