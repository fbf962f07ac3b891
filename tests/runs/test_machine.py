"""What a run is computed on, recorded so that unlike machines are told apart and hosts are not."""

import json
from dataclasses import replace

import pytest

from glam import kernels
from glam.machine.processor import Processor, processor
from glam.machine.resources import Resources
from glam.runs.machine import continued, deciding, in_words, machine_of, segments

HERE = Resources(threads=1, precision="float32", device="cpu", memory_bytes=1 << 30, cores=1)
XEON = {"processor": "Xeon", "instruction_sets": ["avx2", "amx_bf16"], "kernels": "amx"}
EPYC = {"processor": "EPYC", "instruction_sets": ["avx2"], "kernels": "elementwise"}
PLAIN = XEON | {"kernels": "torch's operators", "GLAM_KERNELS": "off"}


def test_a_machine_is_its_processor_and_the_kernels_that_serve():
    found = machine_of(HERE)
    assert found["processor"] == processor().name
    assert found["instruction_sets"] == list(processor().instruction_sets)
    assert json.loads(json.dumps(found)) == found  # as it comes back from a checkpoint


@pytest.mark.usefixtures("kernels_here")
def test_kernels_switched_off_are_another_machine(monkeypatch):
    on = machine_of(HERE)
    monkeypatch.setenv("GLAM_KERNELS", "off")
    with kernels.switched_off():
        off = machine_of(HERE)
    assert (on["GLAM_KERNELS"], off["GLAM_KERNELS"]) == ("on", "off")
    assert off["kernels"] == "torch's operators" != on["kernels"]
    assert deciding(on) != deciding(off)


def test_of_a_run_on_a_gpu_the_gpu_counts_and_not_its_host(monkeypatch):
    gpu = Processor("NVIDIA H200", ("sm_90",))
    monkeypatch.setattr("glam.runs.machine.first_gpu", lambda: gpu)
    found = machine_of(replace(HERE, device="cuda"))
    assert (found["processor"], found["instruction_sets"]) == ("NVIDIA H200", ["sm_90"])
    assert found["kernels"] == "torch's operators"


def test_xla_compiles_its_own_kernels(monkeypatch):
    monkeypatch.delenv("GLAM_KERNELS", raising=False)
    monkeypatch.setattr("glam.runs.machine.processor", lambda: Processor("Xeon", ("avx2",)))
    assert machine_of(replace(HERE, device="xla")) == {
        "processor": "Xeon", "instruction_sets": ["avx2"], "kernels": "XLA", "GLAM_KERNELS": "on",
    }  # fmt: skip


@pytest.mark.parametrize("other", [EPYC, PLAIN, XEON | {"instruction_sets": ["avx2"]}])
def test_another_processor_instruction_set_or_kernel_decides_and_the_switch_does_not(other):
    assert deciding(XEON) != deciding(other)
    assert deciding(XEON) == deciding(XEON | {"GLAM_KERNELS": "on", "earlier": [EPYC]})


def test_a_run_that_is_moved_keeps_the_machines_it_was_on_in_order():
    assert continued(None, XEON) == XEON
    assert continued(XEON, XEON) == XEON
    moved = continued(XEON, EPYC)
    assert segments(moved) == [XEON, EPYC]
    assert segments(continued(moved, EPYC)) == [XEON, EPYC]
    assert segments(continued(moved, XEON)) == [XEON, EPYC, XEON]


def test_words_name_instruction_sets_only_where_nothing_else_differs():
    assert in_words([XEON, EPYC, PLAIN]) == [
        *("Xeon (amx kernels)", "EPYC (elementwise kernels)", "Xeon (torch's operators)"),
    ]
    assert in_words([XEON, XEON]) == ["Xeon (amx kernels)"] * 2
    masked = XEON | {"instruction_sets": []}
    assert in_words([XEON, masked]) == [
        "Xeon (amx kernels) with avx2 amx_bf16",
        "Xeon (amx kernels) with no known instruction set",
    ]
