"""Plans that ask a compiler: what they need, and how a line without it goes on."""

import os
import sys

import pytest

from glam.errors import UserError
from glam.machine import environments
from glam.machine.environments import to_xla_environment
from glam.tasks import plan as plans
from glam.tasks.plan import show_plans
from tests.planning.test_preflight import composed

ON_TPU = ("task=plan", "task.compile=true", "hardware=tpu_v4_8")


@pytest.fixture
def without(monkeypatch):
    """As if these packages were not installed."""

    def hide(*names: str) -> None:
        for module in (environments, plans):
            find = lambda name: None if name in names else object()  # noqa: E731
            monkeypatch.setattr(module.importlib.util, "find_spec", find)

    return hide


def test_without_torch_xla_the_line_names_what_installs_it(without, monkeypatch, tmp_path):
    without("torch_xla")
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    with pytest.raises(UserError) as refused:
        show_plans([composed(*ON_TPU)], "toy", several=False)
    assert str(refused.value) == (
        "task.compile=true needs torch_xla, which is not installed; "
        "make xla builds .venv-xla (a few minutes, 7 GB)"
    )


def test_where_the_environment_is_ready_the_same_line_starts_anew_in_it(
    without, monkeypatch, tmp_path
):
    without("torch_xla")
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    (tmp_path / ".venv-xla" / "bin").mkdir(parents=True)
    (tmp_path / ".venv-xla" / "ready").touch()
    started = []
    monkeypatch.setattr(os, "execv", lambda *call: started.append(call))
    monkeypatch.setattr(sys, "argv", ["run.py", *ON_TPU])
    to_xla_environment("task.compile=true")
    python = tmp_path / ".venv-xla" / "bin" / "python"
    assert started == [(python, [str(python), "run.py", *ON_TPU])]


@pytest.mark.parametrize("missing", ["jax", "libtpu"])
def test_an_environment_of_before_names_the_package_that_it_lacks(without, missing):
    without(missing)
    with pytest.raises(UserError, match=f"needs the package {missing}, .*make xla brings"):
        show_plans([composed(*ON_TPU)], "toy", several=False)


def test_hardware_that_no_tpu_compiler_knows_is_refused_with_one_that_it_knows():
    config = composed("task=plan", "task.compile=true", "hardware=gpu_node")
    with pytest.raises(UserError, match=r"hardware=gpu_node does not set; try hardware=tpu_v4_64"):
        show_plans([config], "toy", several=False)
