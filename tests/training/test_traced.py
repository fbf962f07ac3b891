"""The step without a number of its own to wait for, against the step that reads its numbers."""

import csv
import math
from dataclasses import replace

import poisoned
import pytest
import torch
import toy
from safetensors.torch import load_file

from glam.config import AdafactorConfig, AdamWConfig
from glam.engines.one_device import OneDevice
from glam.model import Glam
from glam.training.optimizers import Adafactor
from glam.training.traced import TracedModule, traced_optimizer


class TracedOnCpu(OneDevice):
    module = TracedModule


def run(path, config, *, traced, monkeypatch):
    engine = TracedOnCpu(config, toy.RESOURCES) if traced else None
    result = toy.train(config, toy.prepared(), toy.folder(path), toy.RESOURCES, engine=engine)
    with (path / "metrics.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    weights = load_file(sorted((path / "checkpoints").iterdir())[-1] / "model.safetensors")
    return result, rows, weights


@pytest.mark.parametrize("optimizer", [AdamWConfig(clip_norm=0.5), AdafactorConfig()])
def test_it_trains_the_same_model(tmp_path, monkeypatch, optimizer):
    config = toy.config(20, optimizer=optimizer)
    _, rows, weights = run(tmp_path / "read", config, traced=False, monkeypatch=monkeypatch)
    _, traced, same = run(tmp_path / "traced", config, traced=True, monkeypatch=monkeypatch)
    for one, other in zip(rows, traced, strict=True):
        for name in ("loss", "grad_norm", "held_out/mean", "balance_loss", "load/1/0"):
            if one[name]:
                assert math.isclose(float(one[name]), float(other[name]), abs_tol=1e-5), name
    for name, weight in weights.items():
        # The softmax does not see a bias that all distances share: noise moves its last bucket.
        met = slice(0, 16) if name.endswith("bias_NR") else slice(None)
        torch.testing.assert_close(same[name][..., met], weight[..., met], atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bad_gradients_are_undone_and_counted(tmp_path, monkeypatch, value):
    poison(monkeypatch, {4, 5}, value)
    result, rows, weights = run(tmp_path, toy.config(10), traced=True, monkeypatch=monkeypatch)
    assert (result.status, result.skipped_steps) == ("done", 2)
    assert all(weight.isfinite().all() for weight in weights.values())
    assert rows[-1]["skipped"] == "2"
    assert all(math.isfinite(float(row["loss"])) for row in rows)


def test_too_many_in_a_row_end_the_run_with_the_weights_of_before(tmp_path, monkeypatch):
    poison(monkeypatch, range(6, 100), math.nan)
    result, rows, weights = run(tmp_path, toy.config(40), traced=True, monkeypatch=monkeypatch)
    assert (result.status, result.skipped_steps) == ("diverged", 3)
    assert int(rows[-1]["step"]) < 20
    assert all(weight.isfinite().all() for weight in weights.values())


def test_losses_that_are_judged_later_lead_back_to_the_same_step(tmp_path, monkeypatch):
    poisoned.poison(monkeypatch, 25)
    made = toy.config(40, optimizer=AdamWConfig(learning_rate=0.02))
    rules = {**poisoned.RULES, "log_every": 7}
    made = replace(made, training=replace(made.training, **rules))
    at_once, _, _ = run(tmp_path / "read", made, traced=False, monkeypatch=monkeypatch)
    later, rows, _ = run(tmp_path / "traced", made, traced=True, monkeypatch=monkeypatch)
    [expected], [found] = at_once.rollbacks, later.rollbacks
    assert found.loss == pytest.approx(expected.loss, abs=1e-4)
    figures = {"loss": 0, "limit": 0, "lost_seconds": 0}
    assert replace(found, **figures) == replace(expected, **figures)
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(set(steps))
    assert later.status == "done"


def poison(monkeypatch, steps, value):
    def on_after_backward(self):
        if self.train_state.step in steps:
            next(self.model.parameters()).grad[0, 0] = value

    monkeypatch.setattr(TracedModule, "on_after_backward", on_after_backward)


@pytest.mark.parametrize("steps", [1, 5])
def test_adafactor_by_definition_is_adafactor_in_place(steps):
    models = [Glam(toy.config().model) for _ in range(2)]
    in_place = Adafactor(list(models[0].parameters()), AdafactorConfig())
    traced = traced_optimizer(AdafactorConfig(), models[1])
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        for one, other in zip(*(model.parameters() for model in models), strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for optimizer in (in_place, traced):
            for group in optimizer.param_groups:
                group["lr"] = torch.tensor(0.01)
            optimizer.step()
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
