"""FP8 of experts is refused in a line wherever it cannot be."""

from dataclasses import replace

import pytest

from glam.config import HardwareConfig, ModelConfig, RunConfig, TrainingConfig
from glam.engines.one_device import OneDevice
from glam.errors import UserError
from glam.machine import float8
from glam.machine.float8 import check_float8
from glam.machine.processor import Processor
from glam.machine.resources import Resources, resolve
from glam.model.moe.experts_float8 import grouped_float8

CONFIG = RunConfig(
    training=TrainingConfig(float8_experts=True), hardware=HardwareConfig(device="gpu")
)


@pytest.fixture
def card(monkeypatch):
    def of(name, capability):
        monkeypatch.setattr(float8, "first_gpu", lambda: Processor(name, (capability,)))

    return of


@pytest.mark.parametrize("capability", ["sm_90", "sm_100", "sm_120"])
def test_cards_from_hopper_on_take_it(card, capability):
    card("a card", capability)
    check_float8(CONFIG, "cuda")


def test_an_older_card_is_named(card):
    card("NVIDIA A100-SXM4-80GB", "sm_80")
    with pytest.raises(UserError, match=r"A100-SXM4-80GB \(sm_80\) is older .*leave it out"):
        check_float8(CONFIG, "cuda")


@pytest.mark.parametrize(
    ("model", "device", "why"),
    [
        (ModelConfig(num_experts=1), "cuda", "is dense"),
        (ModelConfig(), "cpu", "the device cpu does not multiply FP8"),
        (ModelConfig(dispatcher="capacity"), "cuda", "of model.dispatcher=grouped"),
        (ModelConfig(d_ff=200), "cuda", "multiples of 16 numbers, .* model.d_ff=200"),
    ],
)
def test_what_has_no_fp8_is_told_why(card, model, device, why):
    card("a card", "sm_90")
    with pytest.raises(UserError, match=f"training.float8_experts=true: .*{why}"):
        check_float8(replace(CONFIG, model=model), device)


def test_a_run_on_a_cpu_is_refused_before_it_begins():
    with pytest.raises(UserError, match="does not multiply FP8"):
        resolve(replace(CONFIG, hardware=HardwareConfig(device="cpu")))


def test_the_engine_gives_it_to_the_model():
    resources = Resources(
        threads=1, precision="bfloat16", device="cuda", memory_bytes=10**9, cores=1
    )
    assert OneDevice(CONFIG, resources).backend.dispatcher(CONFIG.model) is grouped_float8
