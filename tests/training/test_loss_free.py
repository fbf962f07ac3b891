"""The bias that balances without a loss (Wang et al. 2024, algorithm 1), over whole runs."""

from dataclasses import replace

import pytest
import torch
import toy
from safetensors.torch import load_file

from glam.config import AdafactorConfig, RouterConfig
from glam.engines.one_device import OneDevice
from glam.model import Glam
from glam.training.module import TrainingModule
from glam.training.traced import TracedModule

RATE = 0.25  # large: a few steps change what is chosen


class TracedOnCpu(OneDevice):
    module = TracedModule


def config(steps=12, *, points=3, every_step=False, dispatcher="grouped", **training):
    made = toy.config(steps, points=points, every_step=every_step, optimizer=AdafactorConfig())
    router = RouterConfig(balance_loss="loss_free", bias_rate=RATE)
    model = replace(made.model, router=router, num_layers=4, dispatcher=dispatcher)
    return replace(made, model=model, training=replace(made.training, **training))


def run(path, config, *, traced=False):
    engine = TracedOnCpu(config, toy.RESOURCES) if traced else None
    return toy.train(config, toy.prepared(), toy.folder(path), toy.RESOURCES, engine=engine)


def weights(path):
    return load_file(sorted((path / "checkpoints").iterdir())[-1] / "model.safetensors")


def biases(path):
    """Of every MoE layer, `[layers, E]`."""
    found = weights(path)
    return torch.stack([found[f"layers.{n}.ffn.router.bias_of_choice_E"] for n in (1, 3)])


@pytest.fixture
def loads(monkeypatch):
    """Every expert's count of choices, of each part of each training step, `[layers, E]`."""
    seen, once = [], Glam.loss

    def loss(model, tokens, *others):
        output = once(model, tokens, *others)
        if model.training:
            seen.append((output.load * tokens.numel() * model.config.top_k).round())
        return output

    monkeypatch.setattr(Glam, "loss", loss)
    return seen


def moved_by(counts):
    """By the definition: one rate up below the mean, one down above it."""
    total = torch.zeros(2, 4)
    for step in counts:
        for layer, row in enumerate(step.tolist()):
            for expert, count in enumerate(row):
                mean = sum(row) / len(row)
                total[layer, expert] += RATE * ((count < mean) - (count > mean))
    return total


@pytest.mark.parametrize("dispatcher", ["grouped", "capacity"])
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("rematerialize", [False, True])
def test_each_step_moves_a_bias_once_against_its_experts_load(
    tmp_path, loads, rematerialize, traced, dispatcher
):
    made = config(rematerialize=rematerialize, dispatcher=dispatcher)
    run(tmp_path, made, traced=traced)
    assert len(loads) == 12
    assert biases(tmp_path).unique().numel() > 2
    torch.testing.assert_close(biases(tmp_path), moved_by(loads))


def test_the_load_of_a_step_in_parts_is_that_of_all_its_parts(tmp_path, loads):
    run(tmp_path, config(accumulate=2))
    assert len(loads) == 24
    steps = [one + other for one, other in zip(loads[::2], loads[1::2], strict=True)]
    torch.testing.assert_close(biases(tmp_path), moved_by(steps))


def test_updating_in_the_backward_pass_moves_the_same_biases(tmp_path):
    run(tmp_path / "late", config())
    run(tmp_path / "early", config(update_in_backward=True))
    assert torch.equal(biases(tmp_path / "early"), biases(tmp_path / "late"))


def spoil(monkeypatch, steps):
    """NaN gradients in these steps."""
    once = TrainingModule.grad_norm

    def grad_norm(self):
        if self.train_state.step in steps:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.fill_(torch.nan)
        return once(self)

    monkeypatch.setattr(TrainingModule, "grad_norm", grad_norm)


@pytest.mark.parametrize("traced", [False, True])
def test_a_skipped_step_moves_no_bias(tmp_path, loads, monkeypatch, traced):
    spoil(monkeypatch, {3, 4, 9})
    result = run(tmp_path, config(), traced=traced)
    assert result.skipped_steps == 3
    kept = [load for step, load in enumerate(loads) if step not in (3, 4, 9)]
    torch.testing.assert_close(biases(tmp_path), moved_by(kept))


def test_an_evaluation_moves_no_bias(tmp_path):
    run(tmp_path / "never", config(points=0))
    run(tmp_path / "often", config(points=12))
    for name, weight in weights(tmp_path / "never").items():
        assert torch.equal(weights(tmp_path / "often")[name], weight), name


@pytest.mark.parametrize("step", [1, 7])
def test_a_run_broken_off_ends_with_the_same_biases_bit_for_bit(tmp_path, monkeypatch, step):
    made, once = config(every_step=True), TrainingModule.training_step
    run(tmp_path / "straight", made)

    def broken(self, batch, batch_idx):
        if self.train_state.step == step:
            raise ConnectionError
        return once(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", broken)
        with pytest.raises(ConnectionError):
            run(tmp_path / "broken", made)
    run(tmp_path / "broken", made)
    for name, weight in weights(tmp_path / "straight").items():
        assert torch.equal(weights(tmp_path / "broken")[name], weight), name
