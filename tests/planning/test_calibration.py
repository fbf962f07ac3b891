"""A calibration is found again by the plan of the same configuration, and of no other."""

import dataclasses
import json

import pytest

from glam.config import ModelConfig, RunConfig, TrainingConfig
from glam.errors import UserError
from glam.machine.load import LoadMeter, OtherLoad
from glam.machine.processor import processor
from glam.machine.resources import resolve
from glam.planning import calibration
from glam.planning.calibration import calibrate
from glam.planning.throughput import calibration_file, local_throughput

SMALL = ModelConfig(vocab_size=64, d_model=16, d_ff=16, num_heads=2, num_experts=4)


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(calibration, "SECONDS", 0.05)
    under(monkeypatch, OtherLoad(0.0, 0.0))


def under(monkeypatch, load: OtherLoad) -> None:
    """What other processes take during the calibration."""
    monkeypatch.setattr(LoadMeter, "stop", lambda self: load)


def configured(tmp_path, **model) -> RunConfig:
    return RunConfig(
        model=dataclasses.replace(SMALL, **model),
        training=TrainingConfig(batch_size=2, sequence_length=16),
        cache_dir=str(tmp_path),
    )


def test_a_plan_goes_by_what_was_measured_for_that_very_run(tmp_path):
    config = configured(tmp_path)
    resources = resolve(config)
    assert local_throughput(config, resources).kind == "modelled"
    file = calibration_file(config, resources)
    throughput = calibrate(config, resources, file)
    assert local_throughput(config, resources) == throughput
    kept = json.loads(file.read_text())
    assert throughput.source == f"calibrated on this machine, {kept['date'][:10]}"
    assert kept["machine"]["processor"] == json.loads(json.dumps(processor()))
    other = dataclasses.replace(config, training=TrainingConfig(batch_size=4))
    assert local_throughput(other, resources).kind == "modelled"


def test_a_calibration_under_load_is_told_and_not_kept(tmp_path, monkeypatch):
    config = configured(tmp_path)
    resources = dataclasses.replace(resolve(config), device="cpu")
    under(monkeypatch, OtherLoad(others=1000.0, stolen=0.0))
    file = calibration_file(config, resources)
    throughput = calibrate(config, resources, file)
    assert throughput.kind == "under load"
    assert "not kept: other processes kept 1000.0" in throughput.source
    assert not file.exists()


def test_a_torn_calibration_is_refused_with_the_way_out(tmp_path):
    config = configured(tmp_path)
    resources = resolve(config)
    file = calibration_file(config, resources)
    file.parent.mkdir(parents=True)
    file.write_text('{"tokens_per')
    with pytest.raises(UserError, match="remove it, and it is timed again"):
        local_throughput(config, resources)
    file.unlink()
    assert local_throughput(config, resources).kind == "modelled"


def test_a_deep_model_is_timed_shallow_and_drawn_out(tmp_path, monkeypatch):
    config = configured(tmp_path, num_layers=12)
    resources = resolve(config)
    first, last = calibration.Timed(2.0, 0.5), calibration.Timed(3.0, 0.7)
    monkeypatch.setattr(calibration, "_timed", lambda configs, resources: (first, last))
    throughput = calibrate(config, resources, tmp_path / "throughput.json").tokens_per_second
    # Two layers take 2 s, two more take 1 s: twelve take 7; updates 0.5 + 5 x 0.2.
    assert throughput == pytest.approx(config.training.tokens_per_step / (7.0 + 1.5))
    assert json.loads((tmp_path / "throughput.json").read_text())["layers"] == [2, 4]


def test_a_model_of_which_no_layers_fit_is_refused_before_it_is_made(tmp_path):
    config = configured(tmp_path, d_ff=10**9)
    with pytest.raises(UserError, match=r"task.calibrate=true: 4 layers of model=glam_tiny need"):
        calibrate(config, resolve(config), tmp_path / "throughput.json")
    assert not (tmp_path / "throughput.json").exists()
