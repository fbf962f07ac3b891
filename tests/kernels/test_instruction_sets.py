"""GLAM_KERNELS: what it may ask for, and what a library says it was compiled for."""

import shutil
import subprocess
from pathlib import Path

import pytest

from glam.errors import UserError
from glam.kernels import build
from glam.kernels import instruction_sets as sets

SKYLAKE = (
    "fpu sse sse2 pni ssse3 sse4_1 sse4_2 popcnt abm movbe bmi1 bmi2 f16c fma avx avx2 "
    "avx512f avx512bw avx512cd avx512dq avx512vl"
)
ZEN_3 = SKYLAKE[: SKYLAKE.index("avx512f")]


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """`processor("avx2 fma", "x86_64")`: the machine has these sets alone."""

    def become(flags: str, architecture: str = "x86_64") -> None:
        word = "flags\t\t" if architecture == "x86_64" else "Features\t"
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text(f"processor\t: 0\n{word}: {flags}\n\nprocessor\t: 1\n{word}: {flags}\n")
        monkeypatch.setattr(sets, "CPUINFO", cpuinfo)
        monkeypatch.setattr("platform.machine", lambda: architecture)

    return become


@pytest.mark.parametrize("value", ["of", "OFF", "no", "avx", "0", " off", "avx2,sse"])
def test_an_unknown_value_is_refused_in_one_line(monkeypatch, value):
    monkeypatch.setenv(sets.SWITCH, value)
    with pytest.raises(UserError, match=rf"^GLAM_KERNELS='{value}' is not known; .*$"):
        sets.asked()


@pytest.mark.parametrize("value", [None, "", "on", "off"])
def test_what_needs_no_set_is_had_everywhere(monkeypatch, processor, value):
    processor("fpu")
    monkeypatch.delenv(sets.SWITCH, raising=False)
    if value is not None:
        monkeypatch.setenv(sets.SWITCH, value)
    assert sets.asked() == (value or "on")


@pytest.mark.parametrize(
    ("flags", "architecture", "had"),
    [
        (SKYLAKE, "x86_64", {"sse", "avx2", "avx512"}),
        (f"{SKYLAKE} avx512_bf16 amx_tile amx_bf16", "x86_64", {"sse", "avx2", "avx512", "amx"}),
        (ZEN_3, "x86_64", {"sse", "avx2"}),
        ("fpu sse sse2", "x86_64", set()),
        ("fp asimd", "aarch64", {"neon"}),
        ("fp asimd", "arm64", {"neon"}),
        ("", "riscv64", set()),
    ],
)
def test_a_set_that_the_processor_lacks_is_refused(
    monkeypatch, processor, flags, architecture, had
):
    processor(flags, architecture)
    for name in sets.SETS:
        monkeypatch.setenv(sets.SWITCH, name)
        if name in had:
            assert sets.asked() == name
        else:
            ways = ", ".join([*(each for each in sets.SETS if each in had), "on", "off"])
            with pytest.raises(UserError, match=rf"^GLAM_KERNELS={name}: .*choose from {ways}$"):
                sets.asked()


def test_a_refusal_says_what_is_lacking(monkeypatch, processor):
    processor(ZEN_3)
    monkeypatch.setenv(sets.SWITCH, "avx512")
    with pytest.raises(UserError, match="lacks avx512bw avx512cd avx512dq avx512f avx512vl;"):
        sets.asked()
    monkeypatch.setenv(sets.SWITCH, "neon")
    with pytest.raises(UserError, match="is x86_64;"):
        sets.asked()


def test_a_library_of_another_machine_lacks_something(processor):
    processor(ZEN_3)
    assert sets.lacking(b"\0glam compiled for: x86_64 pni avx2 fma;\0") == []
    assert sets.lacking(b"\0glam compiled for: x86_64 avx2 avx512f;\0") == ["avx512f"]
    assert sets.lacking(b"\0glam compiled for: aarch64 asimd;\0") == ["aarch64"]
    assert sets.lacking(b"\0an older version's\0") == ["unknown"]


def compile_for(name: str, folder: Path) -> bytes:
    source = folder / "empty.c"
    source.write_text('#include "compiled_for.h"\n')
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or sets.architecture() != sets.SETS[name].architecture:
        pytest.skip("no compiler for this set here")
    include = f"-I{Path(build.__file__).parent}"
    options = sets.options(name)[-1]
    subprocess.run(
        [compiler, include, *options, "-c", str(source), "-o", str(folder / "o")], check=True
    )
    return (folder / "o").read_bytes()


@pytest.mark.parametrize("name", sets.SETS)
def test_a_set_compiled_for_says_what_it_needs_and_nothing_wider(tmp_path, processor, name):
    compiled = compile_for(name, tmp_path)
    processor(" ".join(sets.SETS[name].needs), sets.SETS[name].architecture)
    assert sets.lacking(compiled) == []
    processor("fpu", sets.SETS[name].architecture)
    assert set(sets.lacking(compiled)) == sets.SETS[name].needs
