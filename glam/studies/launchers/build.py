"""The launcher of a grid, from its configuration."""

from dataclasses import asdict
from functools import singledispatch
from typing import cast

from glam.config.launchers import LauncherConfig
from glam.config.launchers.isolated import IsolatedConfig
from glam.config.launchers.ray import RayConfig
from glam.config.launchers.submitit import SubmititConfig
from glam.studies.launchers.isolated import IsolatedLauncher
from glam.studies.launchers.launcher import Launcher
from glam.studies.launchers.remote_grid import RemoteGrid


@singledispatch
def build_launcher(config: LauncherConfig) -> Launcher:
    """The launcher that `config` describes: itself, where it runs jobs."""
    return cast(Launcher, config)


@build_launcher.register
def _(config: IsolatedConfig) -> Launcher:
    return IsolatedLauncher()


@build_launcher.register
def _(config: SubmititConfig) -> Launcher:
    from glam.studies.launchers.submitit import SubmititLauncher

    return RemoteGrid(lambda cell: SubmititLauncher(config.cluster, cell, asdict(config)))


@build_launcher.register
def _(config: RayConfig) -> Launcher:
    from glam.studies.launchers.ray import RayLauncher

    return RemoteGrid(lambda cell: RayLauncher(cell, asdict(config)))
