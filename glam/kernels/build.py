"""Compiles a library of C sources for this processor, once, into a folder that all share."""

import ctypes
import functools
import hashlib
import importlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from glam.errors import UserError
from glam.kernels.instruction_sets import OFF, ON, SWITCH, asked, lacking, options
from glam.kernels.store import folders, is_whole, keep
from glam.progress import stage

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)  # each is one object: its hash is looked up at every call
class Library:
    """What a library is made of: `sources`, of which the first includes the others."""

    name: str
    sources: tuple[str, ...]
    flags: tuple[str, ...]
    without: str  # what is so where it cannot be built
    after: str | None = None  # a module whose OpenMP it uses, which has to be imported before


KERNELS = Library(
    name="kernels",
    sources=(
        *(
            "kernels.c",
            "elementwise.inc",
            "compiled_for.h",
            "adafactor.h",
            "arena.h",
            "micro_kernel.h",
            "multiply.h",
            "attention.inc",
        ),
        *(
            "linear.h",
            "hidden_units.h",
            "feed_forward.h",
            "feed_forward_backward.h",
            "loss_f32.h",
            "gemm_bf16.h",
            "tiles_bf16.h",
            "linear_bf16.h",
            "feed_forward_bf16.h",
            "experts_bf16.h",
            "loss_bf16.h",
        ),
        *("decode.h", "lanes.h", "packed.inc", "draw.h", "attend.inc", "product.inc"),
        "product_t.inc",
        "transpose.h",
    ),
    # Sums may be regrouped. Masked keys are infinities, which -ffast-math would not allow.
    flags=(
        *("-O3", "-fPIC", "-fopenmp", "-fno-strict-aliasing", "-fno-math-errno"),
        *("-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
    ),
    without="CPU kernels could not be built, torch's operators are slower",
    after="torch",
)
TEXT = Library(
    name="text",
    sources=("text.c", "compiled_for.h", "cleaned.h", "page_scores.h", "scan.h", "unigram.h"),
    flags=("-O3", "-fPIC", "-fno-strict-aliasing"),
    without="kernels of text could not be built, Python's are slower",
)
ROOM = 2**22  # bytes that a folder must have left to be built in

_switched_off = os.environ.get(SWITCH) == OFF


def library() -> ctypes.CDLL | None:
    """The kernels of a training step, built on the first call. None where kernels are switched off
    or cannot be built: torch's operators compute the same to rounding. Raises UserError where
    GLAM_KERNELS asks for what cannot be."""
    return None if _switched_off else _loaded(KERNELS)


def text_library() -> ctypes.CDLL | None:
    """The kernels of text, built on the first call; torch need not be loaded. None where kernels
    are switched off or cannot be built: Python computes the same bits. Raises UserError as
    `library` does."""
    return None if _switched_off else _loaded(TEXT)


@contextmanager
def switched_off() -> Generator[None]:
    """What the kernels stand in for, torch's operators or Python, until the end of the block."""
    global _switched_off
    previous, _switched_off = _switched_off, True
    try:
        yield
    finally:
        _switched_off = previous


@functools.cache
def _loaded(chosen: Library) -> ctypes.CDLL | None:
    value = asked()
    if chosen.after:
        importlib.import_module(chosen.after)
    try:
        return ctypes.CDLL(str(_built(chosen)))
    except (OSError, subprocess.SubprocessError) as error:
        if value not in (ON, OFF):
            raise UserError(f"{SWITCH}={value} cannot be built: {_reason(error)}") from error
        log.warning("%s: %s", chosen.without, _reason(error))
        return None


def _reason(error: Exception) -> str:
    """One line: the compiler's first error, or what else is wrong."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in str(error.stderr).splitlines() if line.strip()]
        told = [line for line in lines if "error:" in line or "No space" in line]
        ended = f"{shlex.join(map(str, error.cmd))} ended with status {error.returncode}"
        return (told or lines or [ended])[0].strip()
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _compiler() -> list[str]:
    """The C compiler and its options: CC, or the first that is installed. Raises OSError."""
    default = next(filter(shutil.which, ("cc", "gcc", "clang")), "")
    try:
        words = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise OSError(f"CC={os.environ['CC']}: {error}") from error
    if not (words or default):
        raise FileNotFoundError("no C compiler (cc, gcc or clang)")
    return words or [default]


def _built(chosen: Library) -> Path:
    """The library's file, compiled where it is missing, damaged or of another processor, by the
    first process that needs it: the others wait. Raises OSError or SubprocessError."""
    compiler = _compiler()
    name = f"{chosen.name}-{_key(compiler, chosen)}.so"
    for folder in folders():
        if _serves(folder / name):
            return folder / name
        if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= ROOM:
            break
    else:
        folder = Path(tempfile.mkdtemp(prefix="glam-kernels-"))
    file = folder / name
    with FileLock(file.with_suffix(".lock")):
        if not _serves(file):
            with stage("compiling the kernels"):
                _build(compiler, chosen, file)
    return file


def _serves(file: Path) -> bool:
    """Whether a library is there, whole, and has no instruction that this processor lacks."""
    return is_whole(file) and not lacking(file.read_bytes())


def _build(compiler: list[str], chosen: Library, file: Path) -> None:
    machines = options(asked())
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        for machine in machines:
            try:
                keep(_linked(compiler, chosen, machine, Path(folder)), file)
                return
            except (OSError, subprocess.CalledProcessError):
                if machine == machines[-1]:
                    raise


def _linked(compiler: list[str], chosen: Library, machine: tuple[str, ...], folder: Path) -> Path:
    """A library for the sets that the options `machine` name. Raises OSError or SubprocessError,
    also where this processor lacks one of them."""
    source = Path(__file__).with_name(chosen.sources[0])
    compiled, linked = folder / "library.o", folder / "library.so"
    _run(*compiler, *chosen.flags, *machine, "-c", str(source), "-o", str(compiled))
    # No OpenMP is linked: kernels that have threads use those of the one torch has loaded.
    _run(*compiler, "-shared", str(compiled), "-o", str(linked), "-lm")
    if absent := lacking(linked.read_bytes()):
        raise OSError(f"{compiler[0]} compiles for {' '.join(absent)}, not for this processor")
    return linked


def _run(*command: str) -> str:
    """Its standard output. Raises OSError or SubprocessError."""
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return ran.stdout


def _key(compiler: list[str], chosen: Library) -> str:
    """Hash of all that the library depends on, the processor too: machines may share a home."""
    version = repr(compiler) + _run(*compiler, "--version")
    sources = b"".join(Path(__file__).with_name(name).read_bytes() for name in chosen.sources)
    parts = (
        version.encode(),
        sources,
        repr((chosen.flags, options(asked()))).encode(),
        _processor().encode(),
    )
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> str:
    """Model and instruction sets, as Linux lists them; elsewhere the architecture alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    chosen = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "\n".join([platform.machine(), *sorted(set(chosen))])
