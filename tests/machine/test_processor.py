"""The processor is described by what the system says of it, on each kind of system."""

import platform
import subprocess
import sys
import types

import pytest

from glam.machine import processor as module
from glam.machine.processor import Processor, first_gpu, parse_cpuinfo, processor
from glam.machine.resources import _bfloat16_is_fast

SAPPHIRE_RAPIDS = """\
processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8480+
flags\t\t: fpu sse sse4_2 avx fma avx2 avx512f avx512vl avx512_bf16 amx_bf16 avx512_fp16 amx_tile

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
HASWELL = "model name\t: Intel(R) Core(TM) i7-4770\nflags\t\t: sse4_2 avx fma avx2\n"
GRAVITON = """\
processor\t: 0
Features\t: fp asimd evtstrm aes atomics sve asimddp sve2 bf16 i8mm
CPU implementer\t: 0x41
CPU part\t: 0xd4f
"""


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    """Makes a text this machine's /proc/cpuinfo."""

    def become(text: str) -> None:
        (tmp_path / "cpuinfo").write_text(text)

    monkeypatch.setattr(module, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    processor.cache_clear()
    yield become
    processor.cache_clear()


def test_an_x86_processor_has_its_name_and_the_sets_that_matter():
    assert parse_cpuinfo(SAPPHIRE_RAPIDS) == Processor(
        "Intel(R) Xeon(R) Platinum 8480+",
        ("sse4_2", "fma", "avx", "avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16"),
    )


def test_an_arm_processor_is_named_by_its_numbers():
    assert parse_cpuinfo(GRAVITON) == Processor("ARM 0x41 0xd4f", ("neon", "bf16", "sve", "sve2"))


def test_a_system_that_tells_nothing_has_the_architecture_as_its_name(cpuinfo, monkeypatch):
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert processor() == Processor("riscv64", ())


@pytest.mark.parametrize(("text", "fast"), [(SAPPHIRE_RAPIDS, True), (HASWELL, False)])
def test_bfloat16_is_fast_where_the_processor_multiplies_it(cpuinfo, text, fast):
    cpuinfo(text)
    assert _bfloat16_is_fast("cpu") is fast
    assert _bfloat16_is_fast("cuda")
    assert not _bfloat16_is_fast("mps")


def test_it_is_read_once(cpuinfo):
    cpuinfo(HASWELL)
    before = processor()
    cpuinfo(GRAVITON)
    assert processor() is before


@pytest.mark.parametrize(
    ("machine", "told", "expected"),
    [
        (
            "arm64",
            {"machdep.cpu.brand_string": "Apple M2", "hw.optional.arm.FEAT_BF16": "1"},
            Processor("Apple M2", ("neon", "bf16")),
        ),
        (
            "x86_64",
            {
                "machdep.cpu.brand_string": "Intel(R) Core(TM) i9-9880H",
                "machdep.cpu.features": "FPU SSE4.2 FMA AVX1.0",
                "machdep.cpu.leaf7_features": "AVX2",
            },
            Processor("Intel(R) Core(TM) i9-9880H", ("sse4_2", "fma", "avx", "avx2")),
        ),
    ],
)
def test_macos_is_asked_by_sysctl(monkeypatch, machine, told, expected):
    def run(command, **options):
        return subprocess.CompletedProcess(command, 0, told.get(command[-1], "") + "\n", "")

    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(subprocess, "run", run)
    assert processor.__wrapped__() == expected


def test_no_torch_is_imported():
    line = "import sys, glam.machine.processor as p; p.processor(); print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


def test_the_first_gpu_is_told_by_nvml(monkeypatch):
    nvml = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetCudaComputeCapability=lambda handle: (9, 0),
        nvmlDeviceGetName=lambda handle: "NVIDIA H200",
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert first_gpu() == Processor("NVIDIA H200", ("sm_90",))
