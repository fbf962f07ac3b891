"""The house rules that a machine can check: who may import whom, and how long things grow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*ROOT.glob("glam/**/*.py"), *ROOT.glob("hydra_plugins/**/*.py")])

# package of glam -> what it must not import (design: data flows down and never back up)
FORBIDDEN = {
    "kernels": ("glam.config", "glam.data", "glam.model", "glam.training", "hydra", "lightning"),
    "model": ("glam.data", "glam.training", "glam.parallel", "hydra", "lightning", "wandb"),
    "data": ("glam.model", "glam.training", "glam.evaluation", "hydra", "lightning", "wandb"),
    "accounting": ("torch", "glam.data", "glam.training", "hydra", "lightning", "wandb"),
    "reporting": ("torch", "glam.model", "glam.data", "hydra", "lightning", "wandb"),
    "studies": ("torch", "glam.model", "glam.data", "hydra", "lightning", "wandb"),
    "evaluation": ("hydra", "wandb", "glam.studies", "glam.reporting"),
    "training": ("hydra", "glam.studies", "glam.reporting", "glam.cli"),
    "tracking": ("torch", "glam.model", "glam.data", "glam.training", "hydra", "lightning"),
    "config": ("torch", "hydra", "lightning", "wandb", "omegaconf", "glam.data", "glam.model"),
}
WORKSPACES = "wandb_workspaces"
LIGHT = (
    "environments.py",
    "errors.py",
    "identity.py",
    "plans.py",
    "progress.py",
    "resources.py",
    "runs.py",
    "tasks.py",
)


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module}
    return found


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_room_imports_only_what_lies_below_it(package):
    files = sorted(ROOT.glob(f"glam/{package}/**/*.py"))
    assert files
    wrong = [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in files
        for module in imports(file)
        for forbidden in FORBIDDEN[package]
        if within(module, forbidden)
    ]
    assert wrong == []


def test_only_the_command_line_and_the_plugins_know_hydra():
    knowing = {
        file.relative_to(ROOT).parts[:2]
        for file in SOURCES
        if any(within(module, "hydra") for module in imports(file))
    }
    assert knowing == {
        ("glam", "cli"),
        ("hydra_plugins", "glam_grid"),
        ("hydra_plugins", "glam_launchers"),
    }


def test_torch_xla_is_imported_by_the_xla_modules_alone():
    for file in SOURCES:
        if any(within(module, "torch_xla") for module in imports(file)):
            assert file.parent.name == "parallel"
            assert file.name.startswith("xla")


def test_only_the_tracking_knows_wandb():
    knowing = {
        file.parent.name
        for file in SOURCES
        if any(within(module, name) for module in imports(file) for name in ("wandb", WORKSPACES))
    }
    assert knowing == {"tracking"}


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_file_and_no_function_outgrows_the_house(file):
    text = file.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 60, node.name
