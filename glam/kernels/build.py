"""Compiles `kernels.c` for this processor, once, into a folder that all processes share."""

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

from filelock import FileLock

from glam.kernels.store import folders, is_whole, keep
from glam.progress import stage

log = logging.getLogger(__name__)

SOURCES = (
    *("kernels.c", "elementwise.inc", "adafactor.h", "gemm.h"),
    *(
        "attention.inc",
        "experts.inc",
        "loss.h",
        "decode.h",
        "lanes.h",
        "packed.inc",
        "attend.inc",
        "product.inc",
        "product_t.inc",
    ),
)
# Sums may be regrouped. Masked keys are infinities, which -ffast-math would not allow.
FLAGS = (
    *("-O3", "-fPIC", "-fopenmp", "-fno-strict-aliasing", "-fno-math-errno"),
    *("-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
)
# Tried in this order: the widest vectors, a compiler without that option, one without both.
MACHINE = (("-march=native", "-mprefer-vector-width=512"), ("-march=native",), ())
SWITCH = "GLAM_KERNELS"  # the environment variable: `off` leaves all to torch's operators

_switched_off = os.environ.get(SWITCH, "on") == "off"


def library() -> ctypes.CDLL | None:
    """The compiled library, built on the first call. None where kernels are switched off or cannot
    be built: torch's operators compute the same to rounding."""
    return None if _switched_off else _loaded()


@contextmanager
def switched_off() -> Generator[None]:
    """Torch's operators in place of the kernels, until the end of the block."""
    global _switched_off
    previous, _switched_off = _switched_off, True
    try:
        yield
    finally:
        _switched_off = previous


@functools.cache
def _loaded() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(_built()))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning(
            "CPU kernels could not be built, torch's operators are slower: %s", _reason(error)
        )
        return None


def _reason(error: Exception) -> str:
    """One line: the compiler's first, or the error's own."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = str(error.stderr).strip().splitlines()
        return lines[0] if lines else str(error)
    return str(error)


def _built() -> Path:
    """The library's file, compiled where it is missing or damaged, by the first process that needs
    it: the others wait. Raises OSError or SubprocessError."""
    default = next(filter(shutil.which, ("cc", "gcc", "clang")), "")
    compiler = shlex.split(os.environ.get("CC", "")) or shlex.split(default)  # CC may have options
    if not compiler:
        raise FileNotFoundError("no C compiler (cc, gcc or clang)")
    name = f"kernels-{_key(compiler)}.so"
    for folder in folders():
        if is_whole(folder / name):
            return folder / name
        if os.access(folder, os.W_OK):
            break
    else:
        folder = Path(tempfile.mkdtemp(prefix="glam-kernels-"))
    file = folder / name
    with FileLock(file.with_suffix(".lock")):
        if not is_whole(file):
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
        # No OpenMP is linked: the library uses the one torch has loaded, and its threads.
        _run(*compiler, "-shared", str(compiled), "-o", str(linked), "-lm")
        keep(linked, file)


def _run(*command: str) -> str:
    """Its standard output. Raises OSError or SubprocessError."""
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return ran.stdout


def _key(compiler: list[str]) -> str:
    """Hash of all that the library depends on, the processor too: machines may share a home."""
    version = repr(compiler) + _run(*compiler, "--version")
    sources = b"".join(Path(__file__).with_name(name).read_bytes() for name in SOURCES)
    parts = (version.encode(), sources, repr((FLAGS, MACHINE)).encode(), _processor().encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> str:
    """Model and instruction sets, as Linux lists them; elsewhere the architecture alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    chosen = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "\n".join([platform.machine(), *sorted(set(chosen))])
