"""Names as drivers give them, and the share that a known speed is."""

from dataclasses import replace

import pytest

from glam.config import HardwareConfig, RunConfig
from glam.machine import peaks
from glam.machine.peaks import PEAKS, peak_flops, peak_tflops, utilization
from glam.machine.resources import Resources

GPU = Resources(threads=1, precision="bfloat16", device="cuda", memory_bytes=80 * 10**9, cores=8)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA H200 NVL", 835),
        ("NVIDIA B200", 2250),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("Tesla V100-SXM2-32GB", None),  # has no bfloat16
        ("NVIDIA Unheard Of", None),
    ],
)
def test_a_card_is_found_by_its_driver_s_name(name, tflops):
    assert peak_tflops(name) == tflops


def test_every_row_of_the_table_can_be_reached_and_names_its_source():
    for card, tflops, source in PEAKS:
        assert peak_tflops(f"NVIDIA {card}") == tflops
        assert source.startswith("NVIDIA ")


def test_the_peak_that_is_typed_wins_and_counts_every_device(monkeypatch):
    monkeypatch.setattr(peaks, "device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert peak_flops(RunConfig(), GPU) == 989e12
    typed = replace(RunConfig(), hardware=HardwareConfig(device="gpu", peak_tflops=100))
    assert peak_flops(typed, GPU) == 100e12
    assert peak_flops(RunConfig(), replace(GPU, device="cpu")) is None


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_an_unknown_peak_is_said_in_a_line_and_no_share_is_made_up(monkeypatch, capsys, precision):
    card = "NVIDIA Unheard Of" if precision == "bfloat16" else "NVIDIA H100 80GB HBM3"
    monkeypatch.setattr(peaks, "device_name", lambda device: card)
    assert peak_flops(RunConfig(), replace(GPU, precision=precision)) is None
    said = capsys.readouterr().err
    assert card in said
    assert "hardware.peak_tflops=<TFLOP/s>" in said
    assert utilization(RunConfig(), 1e6, None) is None


def test_a_share_is_of_training_flops_forward_and_twice_as_many_backward():
    config = RunConfig()
    peak = 3 * config.flops_per_token * 1000.0
    assert utilization(config, 250.0, peak) == pytest.approx(0.25)
