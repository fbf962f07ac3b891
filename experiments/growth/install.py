"""How long the environment of `make run` takes to set up, by pip and by uv, with wheels cached.

Each way starts without an environment and ends with one that trains: the folder is made, the lock
is installed, the repository is linked, and PyTorch and Lightning are imported once, since a way
that compiles no bytecode leaves that to the first import. uv is installed by pip into the new
environment first: a fresh machine has none. uv does not read pip's configuration, so it is told
where pip looks for wheels besides its index, or it would take another build of torch than pip.

The first round fills the caches of both and is not counted.
"""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from glam.config import ROOT

LOCK = str(ROOT / "requirements.lock")
QUIET = ("--quiet", "--disable-pip-version-check")
Row = dict[str, object]
Install = Callable[[Path], None]


def measure(folder: Path, rounds: int) -> Iterator[Row]:
    """Takes turns. `folder` is on the disk of the repository, so that links and copies cost the
    same as there."""
    for turn in range(rounds + 1):
        for name, install in WAYS.items():
            row = _measured(name, install, folder / ".venv")
            if turn > 0:
                yield {"round": turn, **row}


def _measured(name: str, install: Install, place: Path) -> Row:
    shutil.rmtree(place, ignore_errors=True)
    began, used = time.perf_counter(), _cpu()
    _run(sys.executable, "-m", "venv", str(place))
    install(place)
    _pip(place, "--no-deps", "--editable", str(ROOT))
    installed, used_by_then = time.perf_counter(), _cpu()
    _run(str(place / "bin" / "python"), "-c", "import glam.training")
    ended = time.perf_counter()
    return {
        "way": name,
        "seconds": ended - began,
        "cpu_seconds": _cpu() - used,
        "install_seconds": installed - began,
        "install_cpu_seconds": used_by_then - used,
        "first_import_seconds": ended - installed,
        "torch": _run(
            str(place / "bin" / "python"), "-c", "import torch; print(torch.__version__)"
        ),
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _pip(place: Path, *arguments: str) -> None:
    _run(str(place / "bin" / "python"), "-m", "pip", "install", *QUIET, *arguments)


def _by_pip(*options: str) -> Install:
    return lambda place: _pip(place, *options, "-r", LOCK)


def _by_uv(*options: str) -> Install:
    def install(place: Path) -> None:
        _pip(place, "uv==0.13.9")
        uv, python = str(place / "bin" / "uv"), str(place / "bin" / "python")
        told = ("--index-strategy", "unsafe-best-match", *_configured(), *options)
        _run(uv, "pip", "install", "--quiet", "--python", python, *told, "-r", LOCK)

    return install


def _configured() -> list[str]:
    """What the Makefile tells uv of pip's configuration."""
    return _run("make", "--silent", "uv-options").split()


def _run(*command: str) -> str:
    environment = {**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{ran.stderr[-2000:]}")
    return ran.stdout.strip()


WAYS: dict[str, Install] = {
    "pip": _by_pip(),
    "pip --no-deps": _by_pip("--no-deps"),
    "pip --no-compile": _by_pip("--no-compile"),
    "pip --no-deps --no-compile": _by_pip("--no-deps", "--no-compile"),
    "uv, installed by pip": _by_uv(),
    "uv --compile-bytecode": _by_uv("--compile-bytecode"),
}
