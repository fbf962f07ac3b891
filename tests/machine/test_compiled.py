"""What is compiled is what was asked for, or the most that model and device allow."""

from dataclasses import replace

import pytest

from glam.config import HardwareConfig, ModelConfig, RunConfig
from glam.engines.one_device import OneDevice
from glam.errors import UserError
from glam.machine import compiled
from glam.machine.compiled import what_is_compiled
from glam.machine.resources import Resources
from glam.model.backend import ONE_DEVICE
from glam.model.fused_layers import FusedLayers
from glam.runs.machine import machine_of


@pytest.fixture(autouse=True)
def triton(monkeypatch):
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: name)
    compiled._say.cache_clear()  # what it has said it does not say again


def config(compile: str = "auto", *, mesh: int = 1, **model) -> RunConfig:
    described = {"peak_tflops": 989, "share_of_peak": 0.3, "memory_gb": 80}
    cluster = {"mesh": {"expert": mesh}, "rules": {"batch": "expert"}, **described}
    hardware = HardwareConfig(
        name="gpu", device="gpu", compile=compile, **(cluster if mesh > 1 else {})
    )
    return RunConfig(model=ModelConfig(**model), hardware=hardware)


@pytest.mark.parametrize(
    ("typed", "device", "precision", "found"),
    [
        ("auto", "cuda", "bfloat16", "layers"),
        ("auto", "cpu", "bfloat16", "off"),
        ("auto", "mps", "float32", "off"),
        ("off", "cuda", "bfloat16", "off"),
        ("attention", "cuda", "float32", "attention"),
        ("layers", "cuda", "bfloat16", "layers"),
    ],
)
def test_a_gpu_compiles_layers_and_no_other_device_anything(typed, device, precision, found):
    assert what_is_compiled(config(typed), device, precision) == found


# (what of the configuration, precision) to what is compiled then, and the words that say why.
LESS = {
    "float32": (config, "float32", "attention", "grouped_mm in bfloat16 alone"),
    "odd": (lambda compile="auto": config(compile, d_ff=100), "bfloat16", "attention", "d_ff=100"),
    "narrow": (
        lambda compile="auto": config(compile, d_model=32, num_heads=4),
        "bfloat16",
        "off",
        "a head of 8 numbers",
    ),
    "several": (lambda compile="auto": config(compile, mesh=2), "bfloat16", "off", "several"),
}


@pytest.mark.parametrize("case", LESS)
def test_what_cannot_be_is_left_out_with_a_line_and_refused_where_it_was_typed(case, capsys):
    of, precision, found, why = LESS[case]
    assert what_is_compiled(of(), "cuda", precision) == found
    assert why in capsys.readouterr().err
    with pytest.raises(UserError, match=f"hardware.compile=layers: .*{why}.*compile={found}"):
        what_is_compiled(of("layers"), "cuda", precision)


def test_dense_layers_compile_in_any_precision_and_of_any_width():
    assert what_is_compiled(config(num_experts=1, d_ff=100), "cuda", "float32") == "layers"


def test_without_triton_nothing_is_compiled(monkeypatch, capsys):
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: None)
    assert what_is_compiled(config(), "cuda", "bfloat16") == "off"
    assert "triton is not installed" in capsys.readouterr().err


def test_on_a_cpu_it_is_refused_where_it_was_typed():
    with pytest.raises(UserError, match=r"no backward pass on the device cpu; take .*compile=off"):
        what_is_compiled(config("attention"), "cpu", "float32")


def test_the_engine_gives_the_model_what_is_compiled_and_the_record_says_it(monkeypatch):
    plain = Resources(threads=1, precision="bfloat16", device="cuda", memory_bytes=10**9, cores=1)
    assert OneDevice(config(), plain).backend is ONE_DEVICE
    layers = replace(plain, compiled="layers")
    assert isinstance(OneDevice(config(), layers).backend.run_layers, FusedLayers)
    monkeypatch.setattr("glam.runs.machine.first_gpu", lambda: compiled_card())
    assert machine_of(plain)["kernels"] == "torch's operators"
    assert machine_of(layers)["kernels"] == "torch's operators, layers compiled"


def compiled_card():
    from glam.machine.processor import Processor

    return Processor("NVIDIA H100 80GB HBM3", ("sm_90",))
