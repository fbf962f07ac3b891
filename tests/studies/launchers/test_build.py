"""Every name of hydra/launcher is a launcher of a grid."""

import pytest

from glam.config import LAUNCHERS, LauncherConfig
from glam.studies.launchers.build import build_launcher
from glam.studies.launchers.isolated import IsolatedLauncher
from glam.studies.launchers.remote_grid import RemoteGrid


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_registered_launcher_is_built_from_its_keys(name):
    launcher = build_launcher(LAUNCHERS[name]())
    assert isinstance(launcher, IsolatedLauncher if name == "isolated" else RemoteGrid)
    assert launcher.remote == (name != "isolated")


def test_a_launcher_of_ones_own_is_itself():
    class Mine(LauncherConfig):
        launcher = "mine"

    mine = Mine()
    assert build_launcher(mine) is mine
    assert not mine.remote
    mine.check([], None)  # takes every job
    with pytest.raises(NotImplementedError, match=r"Mine has no run\(\)"):
        mine.run([])
