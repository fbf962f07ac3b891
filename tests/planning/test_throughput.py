"""A calibration is found by whatever has the same throughput, and by nothing else."""

from dataclasses import replace

import pytest

from glam.config import (
    AdafactorConfig,
    AdamWConfig,
    FilterConfig,
    ModelConfig,
    PaperScheduleConfig,
    RunConfig,
    TrainingConfig,
)
from glam.machine.processor import Processor
from glam.machine.resources import Resources
from glam.planning import throughput
from glam.planning.throughput import (
    calibration_file,
    flops_per_second,
    local_throughput,
    tokens_per_hour,
)

CONFIG = RunConfig(cache_dir="/nowhere")
HERE = Resources(threads=1, precision="float32", device="cpu", memory_bytes=10**9, cores=4)


@pytest.mark.parametrize(
    "same",
    [
        replace(CONFIG, seed=7),
        replace(CONFIG, optimizer=AdamWConfig(learning_rate=0.5, weight_decay=0.0)),
        replace(CONFIG, schedule=PaperScheduleConfig(hold_steps=5)),
        replace(CONFIG, data=replace(CONFIG.data, filter=FilterConfig(name="none"))),
        replace(CONFIG, training=TrainingConfig(tokens=1000, seconds=3.0, max_skipped=2)),
        replace(CONFIG, model=ModelConfig(name="mine")),
    ],
)
def test_what_does_not_change_the_throughput_is_not_in_its_key(same):
    assert calibration_file(same, HERE) == calibration_file(CONFIG, HERE)


@pytest.mark.parametrize(
    "other",
    [
        replace(CONFIG, model=ModelConfig(num_experts=4)),
        replace(CONFIG, optimizer=AdafactorConfig()),
        replace(CONFIG, training=TrainingConfig(batch_size=4)),
        replace(CONFIG, training=TrainingConfig(sequence_length=64)),
        replace(CONFIG, training=TrainingConfig(rematerialize=True)),
    ],
)
def test_a_step_that_computes_something_else_has_another_key(other):
    assert calibration_file(other, HERE) != calibration_file(CONFIG, HERE)


@pytest.mark.parametrize("change", [{"threads": 2}, {"precision": "bfloat16"}, {"device": "mps"}])
def test_other_threads_precision_or_device_have_another_key(change):
    assert calibration_file(CONFIG, replace(HERE, **change)) != calibration_file(CONFIG, HERE)


def test_another_processor_has_another_key(monkeypatch):
    before = calibration_file(CONFIG, HERE)
    monkeypatch.setattr(throughput, "processor", lambda: Processor("other", ()))
    assert calibration_file(CONFIG, HERE) != before


@pytest.mark.parametrize("name", ["torch", "code"])
def test_another_torch_or_code_has_another_key(name, monkeypatch):
    before = calibration_file(CONFIG, HERE)
    if name == "torch":
        monkeypatch.setattr("importlib.metadata.version", lambda package: f"{package} 0.1")
    else:
        monkeypatch.setattr(throughput, "_code", lambda: "other")
    assert calibration_file(CONFIG, HERE) != before


def test_kernels_switched_off_or_without_a_compiler_have_another_key(monkeypatch):
    monkeypatch.setenv("CC", "gcc")
    monkeypatch.delenv("GLAM_KERNELS", raising=False)
    served = calibration_file(CONFIG, HERE)
    monkeypatch.setenv("GLAM_KERNELS", "off")
    off = calibration_file(CONFIG, HERE)
    assert off != served
    monkeypatch.delenv("GLAM_KERNELS")
    monkeypatch.delenv("CC")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert calibration_file(CONFIG, HERE) == off


def test_without_a_calibration_the_throughput_is_modelled(tmp_path):
    config = replace(CONFIG, cache_dir=str(tmp_path))
    modelled = local_throughput(config, HERE)
    assert modelled.kind == "modelled"
    # 40 GFLOP/s of one core, over three passes of the forward FLOPs.
    assert modelled.tokens_per_second == pytest.approx(40e9 / (3 * config.flops_per_token))
    again = replace(config, training=TrainingConfig(rematerialize=True))
    assert tokens_per_hour(again, HERE) == pytest.approx(0.75 * tokens_per_hour(config, HERE))
    assert flops_per_second(replace(HERE, threads=3)) == 120e9
