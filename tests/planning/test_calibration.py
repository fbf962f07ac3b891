"""A calibration is found again by the plan of the same configuration, and of no other."""

import dataclasses
import json

import pytest

from glam.config import ModelConfig, RunConfig, TrainingConfig
from glam.errors import UserError
from glam.machine.resources import resolve
from glam.planning import calibration
from glam.planning.calibration import calibrate
from glam.planning.throughput import calibration_file, local_throughput

SMALL = ModelConfig(vocab_size=64, d_model=16, d_ff=16, num_heads=2, num_experts=4)


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(calibration, "SECONDS", 0.05)


def configured(tmp_path, **model) -> RunConfig:
    return RunConfig(
        model=dataclasses.replace(SMALL, **model),
        training=TrainingConfig(batch_size=2, sequence_length=16),
        cache_dir=str(tmp_path),
    )


def test_a_plan_goes_by_what_was_measured_for_that_very_run(tmp_path):
    config = configured(tmp_path)
    resources = resolve(config)
    assert "modelled" in local_throughput(config, resources).source
    throughput = calibrate(config, resources, calibration_file(config, resources))
    assert local_throughput(config, resources) == (throughput, "calibrated on this machine")
    other = dataclasses.replace(config, training=TrainingConfig(batch_size=4))
    assert "modelled" in local_throughput(other, resources).source


def test_a_torn_calibration_is_no_calibration(tmp_path):
    config = configured(tmp_path)
    resources = resolve(config)
    file = calibration_file(config, resources)
    file.parent.mkdir(parents=True)
    file.write_text('{"tokens_per')
    assert "modelled" in local_throughput(config, resources).source


def test_a_deep_model_is_timed_shallow_and_drawn_out(tmp_path, monkeypatch):
    config = configured(tmp_path, num_layers=12)
    resources = resolve(config)
    first, last = calibration.Timed(2.0, 0.5), calibration.Timed(3.0, 0.7)
    monkeypatch.setattr(calibration, "_timed", lambda configs, resources: (first, last))
    throughput = calibrate(config, resources, tmp_path / "pace.json")
    # Two layers take 2 s, two more take 1 s: twelve take 7; updates 0.5 + 5 x 0.2.
    assert throughput == pytest.approx(config.training.tokens_per_step / (7.0 + 1.5))
    assert json.loads((tmp_path / "pace.json").read_text())["layers"] == [2, 4]


def test_a_model_of_which_no_layers_fit_is_refused_before_it_is_made(tmp_path):
    config = configured(tmp_path, d_ff=10**9)
    with pytest.raises(UserError, match=r"task.calibrate=true: 4 layers of model=glam_tiny need"):
        calibrate(config, resolve(config), tmp_path / "pace.json")
    assert not (tmp_path / "pace.json").exists()
