"""Which instruction sets a library is compiled for, and whether this processor has them.

`GLAM_KERNELS` chooses: `on`, all that the processor has; the name of a set, no wider ones; `off`,
no kernels. A library says in its bytes what it was compiled for (`compiled_for.h`), so that one
from another machine is known before it is loaded: its first wide instruction would be SIGILL.
"""

import os
import platform
import re
from pathlib import Path
from typing import NamedTuple

from glam.errors import UserError, one_of

SWITCH = "GLAM_KERNELS"
ON, OFF = "on", "off"
CPUINFO = Path("/proc/cpuinfo")  # Linux
COMPILED_FOR = re.compile(rb"glam compiled for: ([a-z0-9_ ]*);")


class InstructionSet(NamedTuple):
    """A set that `GLAM_KERNELS` may name: the compiler's options for it, without those of wider
    sets, and what Linux calls what it needs."""

    architecture: str
    options: tuple[str, ...]
    needs: frozenset[str]


_V2 = frozenset(("popcnt", "pni", "ssse3", "sse4_1", "sse4_2"))
_V3 = _V2 | frozenset(("abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"))
_V4 = _V3 | frozenset(("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"))
_AMX = _V4 | frozenset(("avx512_bf16", "amx_tile", "amx_bf16"))
WIDE = "-mprefer-vector-width=512"
# Scheduled for the processor that is here, as the whole of its sets would be.
_HERE = "-mtune=native"
SETS = {
    "sse": InstructionSet("x86_64", ("-march=x86-64-v2", _HERE), _V2),
    "avx2": InstructionSet("x86_64", ("-march=x86-64-v3", _HERE), _V3),
    "avx512": InstructionSet("x86_64", ("-march=x86-64-v4", _HERE, WIDE), _V4),
    "amx": InstructionSet(
        "x86_64",
        ("-march=x86-64-v4", _HERE, WIDE, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
        _AMX,
    ),
    "neon": InstructionSet("aarch64", ("-march=armv8-a",), frozenset(("asimd",))),
}
# Names of sets of kernels: `vectors of 4` is plain C, `elementwise` leaves products to torch.
OURS = (*SETS, "vectors of 4", "elementwise")
# All that the processor has, tried in this order: the widest vectors, a compiler without that
# option, one without both.
ALL = (("-march=native", WIDE), ("-march=native",), ())


def asked() -> str:
    """The value of `GLAM_KERNELS`: `on` where it is not set. Raises UserError for one that is not
    known, or a set that this processor lacks."""
    value = os.environ.get(SWITCH) or ON
    one_of(SWITCH, value, (ON, OFF, *SETS))
    if value in SETS and (missing := _missing(SETS[value])):
        here = [name for name in SETS if not _missing(SETS[name])]
        ways = ", ".join((*here, ON, OFF))
        raise UserError(f"{SWITCH}={value}: this processor {missing}; choose from {ways}")
    return value


def _missing(wanted: InstructionSet) -> str:
    """Why the processor has not got a set, in words; empty where it has, or does not say."""
    if architecture() != wanted.architecture:
        return f"is {architecture()}"
    lacks = sorted(wanted.needs - (processor_sets() or wanted.needs))
    return f"lacks {' '.join(lacks)}" if lacks else ""


def options(value: str) -> tuple[tuple[str, ...], ...]:
    """The compiler's options for a value of `GLAM_KERNELS`, in the order in which they are tried.
    `avx512` has the bfloat16 of AVX-512 too where the processor does."""
    if value not in SETS:
        return ALL
    chosen = SETS[value].options
    if value == "avx512" and "avx512_bf16" in (processor_sets() or ()):
        return ((*chosen, "-mavx512bf16"), chosen)
    return (chosen,)


def architecture() -> str:
    """`x86_64`, `aarch64`, or what else the system calls itself."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def processor_sets() -> frozenset[str] | None:
    """As Linux lists them; None where the system does not say."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return None
    found = [line for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(found[0].partition(":")[2].split()) if found else None


def lacking(library: bytes) -> list[str]:
    """What the library in these bytes was compiled for and this processor lacks; `unknown` where it
    does not say."""
    said = COMPILED_FOR.search(library)
    if said is None:
        return ["unknown"]
    compiled, *sets = said[1].decode().split()
    if compiled != architecture():
        return [compiled]
    found = processor_sets()
    return [name for name in sets if found is not None and name not in found]
