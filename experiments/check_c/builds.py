"""The check of one compiler and one instruction set: compiled, and run."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from glam.kernels import build
from glam.kernels.contracts import TYPED, UNTYPED

HERE = Path(__file__).parent
KERNELS = Path(build.__file__).parent
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-psabi")  # no vector crosses the library's border
# Of clang alone: a loop that it cannot vectorize is slow, not wrong.
CLANG_WARNINGS = ("-Wno-pass-failed", "-Wno-unknown-warning-option")
SANITIZERS = (
    *("-g", "-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"),
    "-fno-sanitize-recover=undefined",
)
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",  # three threads on two cores
    "UBSAN_OPTIONS": "print_stacktrace=1",
}
HEAD = r"^(void|int) {}\(([^)]*)\) {{"


class CheckFailedError(RuntimeError):
    """A kernel that does not compile cleanly, or is not as its reference: what was said of it."""


@dataclass(frozen=True)
class Build:
    """A compiler with options for a processor, and what runs what it makes (nothing: this one)."""

    compiler: tuple[str, ...]
    machine: tuple[str, ...]
    sanitized: bool = False
    runner: tuple[str, ...] = ()

    @property
    def flags(self) -> tuple[str, ...]:
        """Those of the library that is shipped, with more warnings."""
        others = CLANG_WARNINGS if "clang" in self.compiler[0] else ()
        sanitizers = SANITIZERS if self.sanitized else ()
        return (*build.KERNELS.flags, *self.machine, *WARNINGS, *others, *sanitizers)


def source(library: build.Library) -> str:
    """All that a library is made of."""
    return "".join((KERNELS / name).read_text() for name in library.sources)


def prototypes() -> str:
    """A declaration of every kernel of the table in calls.py, for each of its types. They are weak:
    the address of one that a set has no form of is 0."""
    text, found = source(build.KERNELS), list[str]()
    for name in (*TYPED, *UNTYPED):
        for suffix, element in (
            (("_f32", "float"), ("_bf16", "bf16")) if name in TYPED else ((None, ""),)
        ):
            full = name if suffix is None else name + suffix
            heads = [
                head
                for written in (f"OF({name})", full)
                for head in re.findall(HEAD.format(re.escape(written)), text, re.MULTILINE)
            ]
            ((returns, parameters),) = heads
            typed = re.sub(r"\bT\b", element, parameters).replace("restrict", "")
            found.append(f"{returns} {full}({typed}) __attribute__((weak));")
    return "\n".join(dict.fromkeys(found)) + "\n"


def compile_check(chosen: Build, folder: Path) -> Path:
    """The program that checks. Raises CheckFailedError where anything is warned of."""
    (folder / "prototypes.h").write_text(prototypes())
    made = [folder / name for name in ("kernels.o", "check.o", "check")]
    include = (f"-I{folder}", f"-I{KERNELS}")
    run(*chosen.compiler, *chosen.flags, "-c", str(KERNELS / "kernels.c"), "-o", str(made[0]))
    # The references are compiled as they are written: not a sum regrouped.
    plain = (*chosen.machine, *WARNINGS, "-O1", "-g", "-fopenmp", *include)
    run(*chosen.compiler, *plain, "-c", str(HERE / "check.c"), "-o", str(made[1]))
    link = (*chosen.flags, *(("-static",) if chosen.runner else ()))
    run(*chosen.compiler, *link, *map(str, made[:2]), "-o", str(made[2]), "-lm")
    return made[2]


def compile_text(chosen: Build, folder: Path) -> None:
    """The kernels of text, for their warnings alone: their definitions are Python's. Raises
    CheckFailedError."""
    flags = [flag for flag in chosen.flags if flag not in build.KERNELS.flags]
    source = str(KERNELS / "text.c")
    run(*chosen.compiler, *build.TEXT.flags, *flags, "-c", source, "-o", str(folder / "text.o"))


def check(chosen: Build, folder: Path, rounds: int, seed: int, *names: str) -> str:
    """Checks the kernels `names`, or all; returns what it printed. Raises CheckFailedError."""
    program = compile_check(chosen, folder)
    # Clang's search for leaks fails in its own threads.
    leaks = {"ASAN_OPTIONS": f"detect_leaks={int('clang' not in chosen.compiler[0])}"}
    command = (*chosen.runner, str(program), str(rounds), str(seed), *names)
    return run(*command, environment=leaks)


def run(*command: str, environment: Mapping[str, str] = MappingProxyType({})) -> str:
    """Its standard output. Raises CheckFailedError with all that it said where it fails."""
    given = {**os.environ, **ENVIRONMENT, **environment}
    ran = subprocess.run(command, capture_output=True, text=True, env=given)
    if ran.returncode:
        raise CheckFailedError(f"{shlex.join(command)}\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def compiler(*names: str) -> tuple[str, ...] | None:
    """The first of these that is installed."""
    found = next(filter(None, map(shutil.which, names)), None)
    return (found,) if found else None
