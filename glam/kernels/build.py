"""Compiles `kernels.c` for this machine, once, and keeps it where the next process finds it."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from glam.progress import stage

log = logging.getLogger(__name__)

PARTS = ("typed", "adafactor", "multiply", "attention", "experts", "loss")
SOURCES = ("kernels.c", *(f"{part}.h" for part in PARTS))
# Sums may be regrouped, but there are infinities (masked keys), so no -ffast-math.
FLAGS = (
    *("-O3", "-fPIC", "-fopenmp", "-fno-strict-aliasing", "-fno-math-errno"),
    *("-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
)
# The widest that the machine has; the second is for compilers that know no vector width.
MACHINE = (("-march=native", "-mprefer-vector-width=512"), ("-march=native",), ())
SWITCH = "GLAM_KERNELS"  # `off`: torch's operators instead


_switched_off = os.environ.get(SWITCH, "on") == "off"


def library() -> ctypes.CDLL | None:
    """None where it is switched off, or can't be had: then torch's operators do the same."""
    return None if _switched_off else _loaded()


@contextmanager
def switched_off() -> Generator[None]:
    """Torch's operators for a while."""
    global _switched_off
    before, _switched_off = _switched_off, True
    try:
        yield
    finally:
        _switched_off = before


@functools.cache
def _loaded() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(_built()))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("no kernels of our own, torch's are slower: %s", _reason(error))
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = str(error.stderr).strip().splitlines()
        return said[0] if said else str(error)
    return str(error)


def _built() -> Path:
    """The library's file. Raises OSError or SubprocessError."""
    found = next(filter(shutil.which, ("cc", "gcc", "clang")), "")
    compiler = shlex.split(os.environ.get("CC", "")) or shlex.split(found)  # it may have options
    if not compiler:
        raise FileNotFoundError("no C compiler (cc, gcc or clang)")
    file = _cache() / f"kernels-{_key(compiler)}.so"
    if not file.is_file():
        with stage("compiling the kernels"):
            _build(compiler, file)
    return file


def _build(compiler: list[str], file: Path) -> None:
    source = Path(__file__).with_name(SOURCES[0])
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        compiled, linked = Path(folder, "kernels.o"), Path(folder, "kernels.so")
        for machine in MACHINE:
            try:
                _run(*compiler, *FLAGS, *machine, "-c", str(source), "-o", str(compiled))
                break
            except subprocess.CalledProcessError:
                if machine == MACHINE[-1]:
                    raise
        # Without an OpenMP of its own: it finds torch's in the process, and shares its threads.
        _run(*compiler, "-shared", str(compiled), "-o", str(linked), "-lm")
        linked.replace(file)  # whole or not at all, whoever else builds it


def _run(*command: str) -> str:
    """What it says."""
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return ran.stdout


def _key(compiler: list[str]) -> str:
    """Of all that the file depends on: a home may be shared by unlike machines."""
    said = repr(compiler) + _run(*compiler, "--version")
    sources = b"".join(Path(__file__).with_name(name).read_bytes() for name in SOURCES)
    parts = (said.encode(), sources, repr((FLAGS, MACHINE)).encode(), _processor().encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "\n".join([platform.machine(), *sorted(set(named))])


def _cache() -> Path:
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "glam"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # the latter where nobody knows a home
        return Path(tempfile.mkdtemp(prefix="glam-kernels-"))
    return folder if os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="glam-kernels-"))
