"""Holds the C kernels against their scalar references, under sanitizers, for every instruction set:
`python -m experiments.check_c [--rounds N] [--seed N] [--quick]`, or `make check-c`.

Every function in the table of `glam/kernels/contracts.py` is run with random shapes (one row, odd
widths, an expert without a token, one with all) on arrays that end where the kernel may read, and
compared with its reference in float64 (`glam/kernels/reference.h`):

- by gcc and by clang, for every set that this processor has, warnings being errors: as it is
  shipped, and again with the sanitizers of addresses and of undefined behaviour;
- for NEON by a cross compiler, run by qemu: that says that it is right there, not how fast;
- with the callers in Python too, by the tests that they have, on a library with sanitizers.

Says what it ran and what it left out for want of a tool. Status 1 where something is wrong.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from experiments.check_c.builds import (
    SANITIZERS,
    Build,
    CheckFailedError,
    check,
    compile_text,
    compiler,
)
from glam.kernels.instruction_sets import SETS, architecture, options, processor_sets

WAYS = {
    "gcc": "apt install gcc",
    "clang": "apt install clang libomp-dev, and for its sanitizers libclang-rt-dev",
    "NEON": "apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user",
}
BUILD = "from glam.kernels import build; build._built(build.KERNELS), build._built(build.TEXT)"
ROOT = Path(__file__).parents[2]
# The callers of every kernel, those of text too, against their definitions.
PYTHON_TESTS = (
    *(f"tests/kernels/test_{name}.py" for name in ("calls", "types", "contracts", "threads")),
    *("tests/model/moe/test_experts_cpu_kernel.py", "tests/model/moe/test_router.py"),
    *("tests/model/attention/test_cpu_kernel.py", "tests/model/decoding/test_decoders.py"),
    *("tests/model/test_loss.py", "tests/training/test_optimizers.py"),
    *(f"tests/data/test_{name}.py" for name in ("unigram", "scan", "scoring", "cleaned")),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="check-c", description="See experiments/check_c.")
    parser.add_argument("--rounds", type=int, default=40, help="shapes of each kernel and build")
    parser.add_argument("--seed", type=int, default=0, help="of the shapes")
    parser.add_argument("--quick", action="store_true", help="without the callers in Python")
    chosen = parser.parse_args()
    failed = 0
    for name, build in builds():
        if build is None:
            print(f"left out  {name}: {WAYS[name.split()[0]]}")
            continue
        failed += not checked(name, build, chosen.rounds, chosen.seed)
    if not chosen.quick:
        failed += not callers_checked()
    print("check-c: all as their references" if not failed else f"check-c: {failed} failed")
    return int(failed > 0)


def builds() -> Iterator[tuple[str, Build | None]]:
    """By name; None for one whose compiler is not here."""
    for name in ("gcc", "clang"):
        found = compiler(name)
        if found is None:
            yield name, None
            continue
        for machine, flags in sets().items():
            for sanitized in (False, True):
                words = f"{name} {machine}{', sanitizers' if sanitized else ''}"
                yield words, Build(found, flags, sanitized)
    cross, emulator = compiler("aarch64-linux-gnu-gcc"), compiler("qemu-aarch64")
    there = Build(cross, SETS["neon"].options, runner=emulator) if cross and emulator else None
    yield "NEON by qemu, correctness alone", there


def sets() -> dict[str, tuple[str, ...]]:
    """The compiler's options by set: those of this processor, all of them together, and none."""
    here = processor_sets() or frozenset()
    found = {"native": options("on")[0], "plain": ()}
    for name, one in SETS.items():
        if one.architecture == architecture() and one.needs <= here:
            found[name] = options(name)[0]
    return found


def checked(name: str, build: Build, rounds: int, seed: int) -> bool:
    """Whether all kernels of a build are as their references; says so in a line."""
    with tempfile.TemporaryDirectory(prefix="glam-check-c-") as folder:
        try:
            compile_text(build, Path(folder))
            said = check(build, Path(folder), rounds, seed)
        except CheckFailedError as error:
            print(f"FAILED    {name}\n{error}", flush=True)
            return False
    kernels, without = said.splitlines()[-1], re.findall("^not compiled: (.*)$", said, re.MULTILINE)
    missing = f"; this set has no {', '.join(without)}" if without else ""
    print(f"checked   {name}: {kernels}{missing}", flush=True)
    return True


def callers_checked() -> bool:
    """Whether the tests of the kernels' callers pass on a library with sanitizers, which gcc's own
    runtime has to be loaded for before Python."""
    found = compiler("gcc")
    if found is None:
        print(f"left out  the callers in Python, with sanitizers: {WAYS['gcc']}")
        return True
    runtimes = [runtime(found[0], name) for name in ("libasan.so", "libubsan.so")]
    with tempfile.TemporaryDirectory(prefix="glam-check-c-") as cache:
        environment = {
            **os.environ,
            "CC": " ".join((*found, *SANITIZERS)),
            "ASAN_OPTIONS": "detect_leaks=0",
            "XDG_CACHE_HOME": cache,
            "GLAM_KERNELS": "on",
        }
        # Before the runtime is loaded, which would watch over the compiler too.
        subprocess.run((sys.executable, "-c", BUILD), cwd=ROOT, env=environment, check=True)
        environment["LD_PRELOAD"] = " ".join(runtimes)
        tests = ("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *PYTHON_TESTS)
        ran = subprocess.run((sys.executable, *tests), cwd=ROOT, env=environment)
    words = "FAILED   " if ran.returncode else "checked  "
    print(f"{words} the callers in Python, sanitizers, by {len(PYTHON_TESTS)} files of tests")
    return ran.returncode == 0


def runtime(gcc: str, name: str) -> str:
    """Where gcc has a library of its own."""
    ran = subprocess.run(
        [gcc, f"-print-file-name={name}"], capture_output=True, text=True, check=True
    )
    return str(Path(ran.stdout.strip()).resolve())


if __name__ == "__main__":
    sys.exit(main())
