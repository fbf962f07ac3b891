"""The house rules that a machine can check: who may import whom, and how long things grow."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*ROOT.glob("glam/**/*.py"), *ROOT.glob("hydra_plugins/**/*.py")])
LINT = "from importlinter.cli import lint_imports_command as lint; lint()"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter with the contracts of pyproject.toml, over the packages in `folder`."""
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"], cwd=folder, capture_output=True, text=True
    )


def test_every_package_imports_only_what_lies_below_it():
    checked = lint(ROOT)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("glam/runs/folder.py", "import glam.reporting", "A package imports only"),
        ("glam/data/stream.py", "from glam.model import Glam", "A package imports only"),
        ("glam/studies/grid.py", "from hydra.core.utils import JobReturn", "know Hydra"),
        ("glam/training/fit.py", "import torch_xla", "torch_xla is known"),
        ("glam/reporting/run.py", "import wandb", "knows W&B"),
    ],
)
def test_an_import_inside_a_function_counts_too(tmp_path, file, line, broken):
    for package in ("glam", "hydra_plugins"):
        only_sources = shutil.ignore_patterns("__pycache__", "*.c", "*.so")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=only_sources)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as source:
        source.write(f"\n\ndef late():\n    {line}\n")
    checked = lint(tmp_path)
    assert checked.returncode == 1
    [said] = [name for name in checked.stdout.splitlines() if name.endswith(" BROKEN")]
    assert broken in said


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_file_and_no_function_outgrows_the_house(file):
    text = file.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 60, node.name
