"""Plans that ask a compiler: what they need, and how a line without it goes on."""

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest

from glam.config import ROOT
from glam.errors import UserError
from glam.machine import environments
from glam.machine.environments import (
    TORCH_OF_TPU,
    TPU_PACKAGES,
    default_route,
    to_xla_environment,
)
from glam.tasks import plan as plans
from glam.tasks.plan import show_plans
from tests.planning.test_preflight import composed

ON_TPU = ("task=plan", "task.compile=true", "hardware=tpu_v4_8")
BY_XLA = (*ON_TPU, "task.compile_with=torch_xla")


@pytest.fixture
def without(monkeypatch):
    """As if these packages were not installed."""

    def hide(*names: str) -> None:
        for module in (environments, plans):
            find = lambda name: None if name in names else object()  # noqa: E731
            monkeypatch.setattr(module.importlib.util, "find_spec", find)

    return hide


@pytest.fixture
def versions(monkeypatch):
    """As if packages of these versions were installed, and no others of the extra."""

    def install(**packages: str) -> None:
        find = lambda name: object() if name in packages else None  # noqa: E731
        for module in (environments, plans):
            monkeypatch.setattr(module.importlib.util, "find_spec", find)
        monkeypatch.setattr(metadata, "version", packages.__getitem__)

    return install


FITTING = {**TPU_PACKAGES, "torch": f"{TORCH_OF_TPU}.0+cpu"}


def refusal(*line: str) -> str:
    with pytest.raises(UserError) as refused:
        show_plans([composed(*line)], "toy", several=False)
    return str(refused.value)


def test_without_a_compiler_the_line_names_what_installs_one(without, monkeypatch, tmp_path):
    without("torch_xla", "torch_tpu")
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    assert refusal(*ON_TPU) == (
        "task.compile=true needs torch_tpu, which is not installed; make tpu adds it to this "
        "environment (1.3 GB)"
    )
    assert refusal(*BY_XLA) == (
        "task.compile_with=torch_xla needs torch_xla, which is not installed; "
        "make xla builds .venv-xla (a few minutes, 7 GB)"
    )


@pytest.mark.parametrize("missing", list(TPU_PACKAGES))
def test_a_missing_package_of_the_extra_is_named(versions, missing):
    versions(**{name: version for name, version in FITTING.items() if name != missing})
    said = refusal(*ON_TPU, "task.compile_with=torch_tpu")
    assert said.startswith(f"task.compile_with=torch_tpu needs {missing} {TPU_PACKAGES[missing]}, ")
    assert said.endswith("which is not installed; make tpu adds it to this environment (1.3 GB)")


@pytest.mark.parametrize(("package", "other"), [("jax", "0.11.1"), ("torch", "2.14.0")])
def test_versions_that_do_not_fit_each_other_are_named(versions, package, other):
    versions(**{**FITTING, package: other})
    said = refusal(*ON_TPU)
    assert f"needs {package} " in said
    assert f" and {other} is installed" in said
    assert said.endswith("make tpu brings the versions that fit each other")


def test_torch_tpu_is_taken_where_it_is_installed_and_torch_xla_elsewhere(
    versions, monkeypatch, tmp_path
):
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    versions(**FITTING)
    assert default_route() == "torch_tpu"
    versions(torch_xla="2.9.0")
    assert default_route() == "torch_xla"


def test_a_loop_that_keeps_its_activations_is_torch_xlas(versions):
    versions(**FITTING)
    assert refusal(*ON_TPU, "hardware.scan=true") == (
        "hardware.scan=true is compiled by torch_tpu with every turn computed again: set "
        "training.rematerialize=true too, or task.compile_with=torch_xla"
    )


def test_a_step_that_draws_is_torch_xlas(versions):
    versions(**FITTING)
    assert refusal(*ON_TPU, "model.router.second_policy=random") == (
        "model.router.second_policy=random draws in every step, which torch_tpu lowers on a chip "
        "alone: set model.router.second_policy=always, or task.compile_with=torch_xla"
    )


def test_a_route_that_nothing_asks_for_is_refused():
    with pytest.raises(UserError, match=r"task.compile_with=torch_tpu is for task.compile=true"):
        composed("task=plan", "hardware=tpu_v4_8", "task.compile_with=torch_tpu")


def test_the_extra_pins_what_is_checked():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = dict(pin.split("==") for pin in extras["optional-dependencies"]["tpu"])
    assert {name.replace("-", "_"): version for name, version in pinned.items()} == TPU_PACKAGES
    for lock in ("requirements-tpu.lock", "requirements-dev.lock"):
        lines = (ROOT / lock).read_text().splitlines()
        assert {f"{name}=={version}" for name, version in pinned.items()} <= set(lines)


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
    assert re.search(f"needs the package {missing}, .*make xla brings", refusal(*BY_XLA))


def test_hardware_that_no_tpu_compiler_knows_is_refused_with_one_that_it_knows():
    config = composed("task=plan", "task.compile=true", "hardware=gpu_node")
    with pytest.raises(UserError, match=r"hardware=gpu_node does not set; try hardware=tpu_v4_64"):
        show_plans([config], "toy", several=False)


@pytest.mark.parametrize("given", [None, "1"])
def test_torch_and_all_that_trains_load_no_tpu_unless_the_environment_says_so(given):
    """Also where the extra is installed: it would cost seconds, and warns."""
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    del environment["TORCH_DEVICE_BACKEND_AUTOLOAD"]
    code = "import glam, os, sys; print(os.environ['TORCH_DEVICE_BACKEND_AUTOLOAD'])"
    if given is not None:
        environment["TORCH_DEVICE_BACKEND_AUTOLOAD"] = given
    else:
        code += "; import torch, glam.tasks.run_task, glam.training.fit, glam.engines.choose"
        code += "; print({'torch_tpu', 'jax', 'jaxlib', 'libtpu'} & set(sys.modules) or 'none')"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == (["0", "none"] if given is None else [given])
    assert done.stderr == ""
