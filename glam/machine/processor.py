"""The processor's name and the instruction sets that decide speed and rounding. No torch."""

import functools
import importlib
import platform
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

CPUINFO = Path("/proc/cpuinfo")  # Linux

# By the kernel's names, widest last: what torch's operators and `glam/kernels` are compiled for.
X86_SETS = (
    *("sse4_2", "fma", "avx", "avx2", "avx512f"),
    *("avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16"),
)
# On ARM the kernel calls NEON `asimd`.
ARM_SETS = {"asimd": "neon", "bf16": "bf16", "sve": "sve", "sve2": "sve2", "sme": "sme"}


class Processor(NamedTuple):
    """A processor model, and which of the instruction sets above it has, in that order."""

    name: str
    instruction_sets: tuple[str, ...]


@functools.cache
def processor() -> Processor:
    """The processor of this machine, read once per process. What the system does not tell is the
    architecture's name (`x86_64`) and no instruction set."""
    if platform.system() == "Darwin":
        return _of_macos()
    try:
        return parse_cpuinfo(CPUINFO.read_text())
    except OSError:
        return Processor(_fallback_name(), ())


def first_gpu() -> Processor:
    """The first GPU, by NVML; its instruction set is the compute capability, as `sm_90`. Raises
    what NVML raises where there is no driver."""
    with nvml_session() as nvml:
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
        return Processor(str(nvml.nvmlDeviceGetName(handle)), (f"sm_{major}{minor}",))


def start_nvml() -> Any:
    """NVIDIA's management library, initialized. Raises ImportError, or what it raises where there
    is no driver."""
    nvml: Any = importlib.import_module("pynvml")  # which ships no types
    nvml.nvmlInit()
    return nvml


@contextmanager
def nvml_session() -> Generator[Any]:
    """NVIDIA's management library, initialized inside."""
    nvml = start_nvml()
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def parse_cpuinfo(text: str) -> Processor:
    """The first core's entry of Linux's `/proc/cpuinfo` (cores of one kind are assumed)."""
    entry = dict[str, str]()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        entry.setdefault(key.strip(), value.strip())
    flags = entry.get("flags", entry.get("Features", "")).split()
    name = entry.get("model name") or _arm_name(entry) or _fallback_name()
    return Processor(name, _known(flags))


def _known(flags: list[str]) -> tuple[str, ...]:
    x86 = [name for name in X86_SETS if name in flags]
    return (*x86, *(name for flag, name in ARM_SETS.items() if flag in flags))


def _arm_name(entry: dict[str, str]) -> str:
    """ARM cores have numbers only: implementer (0x41 is Arm) and part (0xd0c is Neoverse N1)."""
    numbers = [entry.get(key) for key in ("CPU implementer", "CPU part")]
    return f"ARM {numbers[0]} {numbers[1]}" if all(numbers) else ""


def _fallback_name() -> str:
    return platform.processor() or platform.machine()


def _of_macos() -> Processor:
    name = _sysctl("machdep.cpu.brand_string") or _fallback_name()
    if platform.machine() == "arm64":
        has_bfloat16 = _sysctl("hw.optional.arm.FEAT_BF16") == "1"
        return Processor(name, ("neon", "bf16") if has_bfloat16 else ("neon",))
    features = f"{_sysctl('machdep.cpu.features')} {_sysctl('machdep.cpu.leaf7_features')}".lower()
    # Apple writes `avx1.0` and `sse4.2`.
    return Processor(name, _known(features.replace("avx1.0", "avx").replace(".", "_").split()))


def _sysctl(name: str) -> str:
    """A value of macOS' sysctl, empty where there is none."""
    try:
        ran = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout.strip()
