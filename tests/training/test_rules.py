"""Rules of a training step that hold whatever its configuration: draws by step, optimizers by
definition in every field, checkpoints whole or absent."""

import csv
import dataclasses
import itertools
import math
import os
from types import SimpleNamespace

import pytest
import torch
import toy
from torch import nn

from glam import kernels
from glam.config import AdafactorConfig, AdamWConfig
from glam.config.optimizers import OPTIMIZERS
from glam.training.checkpoint import FolderCheckpointIO
from glam.training.module import TrainingModule, seed_device
from glam.training.optimizers import build_optimizer
from glam.training.traced import traced_optimizer

BUILT_IN = {"adamw": AdamWConfig, "adafactor": AdafactorConfig}


@pytest.fixture
def draws(monkeypatch, tmp_path):
    """What the first draw of every step is, by step, of a run with that seed. It may be broken off
    before a step, and goes on in the same folder."""

    class BrokenOffError(Exception):
        pass

    once = TrainingModule.training_step

    def of(seed, folder="run", broken_off_at=None):
        found = {}

        def training_step(self, batch, batch_idx):
            if self.train_state.step == broken_off_at:
                raise BrokenOffError
            found[self.train_state.step] = torch.rand(()).item()
            torch.rand(self.train_state.step % 3)  # some steps draw more than others
            return once(self, batch, batch_idx)

        monkeypatch.setattr(TrainingModule, "training_step", training_step)
        config = toy.config(8, every_step=True, seed=seed)
        try:
            toy.train(config, toy.prepared(), toy.folder(tmp_path / folder), toy.RESOURCES)
        except BrokenOffError:
            assert broken_off_at is not None
        return found

    return of


def test_what_a_step_draws_follows_from_the_seed_and_the_step_alone(draws):
    whole = draws(seed=3)
    assert len(set(whole.values())) == 8  # each step draws anew
    torch.manual_seed(99)
    begun = draws(seed=3, folder="broken", broken_off_at=5)
    torch.manual_seed(98)
    assert begun | draws(seed=3, folder="broken") == whole


def test_steps_and_runs_are_seeded_apart():
    """torch's generator on a CPU takes the lower 32 bits of a seed."""
    drawn = set()
    for seed, step in itertools.product((0, 1, 2, 2**32 - 1), (0, 1, 10**9)):
        state = SimpleNamespace(
            config=SimpleNamespace(seed=seed), train_state=SimpleNamespace(step=step)
        )
        seed_device(torch.device("cpu"), TrainingModule.seed_of_step.fget(state))
        drawn.add(torch.rand(()).item())
    assert len(drawn) == 12


# A value of every field of each optimizer at which that field has a say in the first steps.
TELLING = {
    "adamw": {
        "learning_rate": 0.03,
        "beta1": 0.5,
        "beta2": 0.6,
        "eps": 0.1,
        "weight_decay": 0.7,
    },
    "adafactor": {
        "learning_rate": 0.03,
        "beta2": 0.3,  # below 1 - step ** -beta2_decay from the second step on
        "beta2_decay": 0.4,
        "clip_threshold": 0.2,
        "eps_factor": 0.5,
        "eps_scale": 3.0,
    },
}
ELSEWHERE = {
    "auto",
    "name",
    "clip_norm",
}  # the norm of all gradients is clipped before the optimizer


def adamw(parameter, gradients, c):
    p, first, second = parameter.double(), 0.0, 0.0
    for t, gradient in enumerate(gradients, start=1):
        g = gradient.double()
        first, second = (
            c.beta1 * first + (1 - c.beta1) * g,
            c.beta2 * second + (1 - c.beta2) * g * g,
        )
        step = first / (1 - c.beta1**t) / ((second / (1 - c.beta2**t)).sqrt() + c.eps)
        decay = c.weight_decay if p.ndim > 1 else 0.0
        p = p - c.learning_rate * (step + decay * p)
    return p


def adafactor(parameter, gradients, c):
    """Shazeer & Stern's algorithms 4 and 5, with the paper's cap on beta2."""
    p, rows, columns, whole = parameter.double(), 0.0, 0.0, 0.0
    for t, gradient in enumerate(gradients, start=1):
        g = gradient.double()
        beta2 = min(c.beta2, 1 - t**-c.beta2_decay)
        square = g * g + c.eps_factor
        if p.ndim > 1:
            rows = beta2 * rows + (1 - beta2) * square.mean(-1, keepdim=True)
            columns = beta2 * columns + (1 - beta2) * square.mean(-2, keepdim=True)
            second = rows * columns / rows.mean(-2, keepdim=True)
        else:
            second = whole = beta2 * whole + (1 - beta2) * square
        update = g / second.sqrt()
        update = update / max(1.0, root_mean_square(update) / c.clip_threshold)
        p = p - c.learning_rate * max(c.eps_scale, root_mean_square(p)) * update
    return p


def root_mean_square(x):
    return x.square().mean().sqrt().item()


class Weights(nn.Module):
    """A square matrix, an oblong one and a vector, by names that the layout knows."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.w_in_MH = nn.Parameter(torch.randn(6, 6))
        self.w_out_HM = nn.Parameter(torch.randn(5, 9))
        self.scale_M = nn.Parameter(torch.randn(7))


def after(build, config, gradients):
    model = Weights()
    optimizer = build(config, model)
    for each in gradients:
        for parameter, gradient in zip(model.parameters(), each, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("form", ["kernels", "operators", "traced"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_every_field_of_an_optimizer_moves_the_weights_as_its_definition_says(
    name, form, monkeypatch
):
    if form == "operators":
        monkeypatch.setattr(kernels, "supported", lambda *tensors: False)
    build = traced_optimizer if form == "traced" else build_optimizer
    defined = {"adamw": adamw, "adafactor": adafactor}[name]
    start = [parameter.detach() for parameter in Weights().parameters()]
    generator = torch.Generator().manual_seed(1)
    gradients = [[torch.randn(p.shape, generator=generator) for p in start] for _ in range(6)]
    fields = {field.name for field in dataclasses.fields(BUILT_IN[name])} - ELSEWHERE
    assert fields == TELLING[name].keys()  # one that is added is given a telling value above
    seen = []
    for field in [None, *sorted(fields)]:
        telling = {field: TELLING[name][field]} if field else {}
        config = BUILT_IN[name](**{"learning_rate": 0.01} | telling)
        found = after(build, config, gradients)
        for number, (weight, one) in enumerate(zip(found, start, strict=True)):
            exact = defined(one, [each[number] for each in gradients], config)
            torch.testing.assert_close(
                weight.double(), exact, rtol=2e-5, atol=2e-5, msg=lambda m, f=field: f"{f}: {m}"
            )
        assert not any(torch.allclose(found[0], other, atol=1e-4) for other in seen), field
        seen.append(found[0])


def test_every_optimizer_is_held_against_its_definition():
    assert {*OPTIMIZERS} == {*BUILT_IN}


def norms_and_rates(monkeypatch, tmp_path, config):
    """Of every step: the gradients' norm before clipping, after it, and the learning rate."""
    found, clip = [], TrainingModule.optimizer_step

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        step = optimizer.step

        def watched(*args, **kwargs):
            norm = math.sqrt(sum(p.grad.square().sum().item() for p in self.model.parameters()))
            rates = {group["lr"] for group in optimizer.param_groups}
            found.append((self.train_state.step, norm, rates))
            return step(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(optimizer, "step", watched)
            clip(self, epoch, batch_idx, optimizer, optimizer_closure)

    monkeypatch.setattr(TrainingModule, "optimizer_step", optimizer_step)
    toy.train(config, toy.prepared(), toy.folder(tmp_path / "run"), toy.RESOURCES)
    return found


@pytest.mark.parametrize("clip_norm", [0.05, 0.3, 1e6])
def test_gradients_longer_than_clip_norm_are_as_long_and_no_others_are_touched(
    clip_norm, monkeypatch, tmp_path
):
    config = toy.config(6, optimizer=AdamWConfig(clip_norm=clip_norm))
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, log_every=1))
    found = norms_and_rates(monkeypatch, tmp_path, config)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as lines:
        before = [float(row["grad_norm"]) for row in csv.DictReader(lines)]
    assert len(found) == len(before) == 6
    for (_, norm, _), whole in zip(found, before, strict=True):
        assert norm == pytest.approx(min(whole, clip_norm), rel=1e-4)


def test_a_step_is_taken_at_the_schedules_rate_of_that_step(monkeypatch, tmp_path):
    config = toy.config(8, optimizer=AdamWConfig(learning_rate=0.02))
    for step, _, rates in norms_and_rates(monkeypatch, tmp_path, config):
        assert rates == {0.02 * config.schedule.factor(step, 8)}


def test_what_is_trained_on_is_the_loss_plus_the_balance_loss(monkeypatch, tmp_path):
    """The layers' balance losses are in it once, with their coefficient."""
    seen, once = [], TrainingModule.training_step

    def training_step(self, batch, batch_idx):
        loss = once(self, batch, batch_idx)
        output = self.model.loss(batch.tokens, batch.targets, batch.segments)
        seen.append((loss.item(), (output.loss + output.balance_loss).item()))
        return loss

    monkeypatch.setattr(TrainingModule, "training_step", training_step)
    toy.train(toy.config(3), toy.prepared(), toy.folder(tmp_path / "run"), toy.RESOURCES)
    assert len(seen) == 3
    for loss, expected in seen:
        assert loss == pytest.approx(expected, rel=1e-6)


def test_a_checkpoint_has_its_name_once_all_of_it_is_on_the_disk_and_not_before(
    monkeypatch, tmp_path
):
    """A power cut at any moment leaves it whole or absent: the files that were synced get the name,
    all at once, and no copies of them."""
    synced, sync = [], os.fsync
    checkpoints = tmp_path / "run" / "checkpoints"

    def fsync(handle):
        named = [folder.name for folder in checkpoints.glob("step-*")]
        synced.append((os.fstat(handle).st_ino, named))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    saved, save = [], FolderCheckpointIO.save_checkpoint

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        synced.clear()
        save(self, checkpoint, path, storage_options)
        saved.append((path, list(synced)))

    monkeypatch.setattr(FolderCheckpointIO, "save_checkpoint", save_checkpoint)
    toy.train(toy.config(3), toy.prepared(), toy.folder(tmp_path / "run"), toy.RESOURCES)
    (path, seen), *_ = saved
    before = {inode for inode, named in seen if path.name not in named}
    assert {file.stat().st_ino for file in path.iterdir()} <= before
    assert path.stat().st_ino in before  # the folder itself, which lists them
    assert seen[-1] == (checkpoints.stat().st_ino, [path.name])  # the name is the last


def rows(path):
    with (path / "metrics.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_row_has_the_rate_of_its_step_and_the_load_since_the_last_evaluation(
    monkeypatch, tmp_path
):
    loads, once = {}, TrainingModule._account

    def account(self, *args, **named):
        loads[self.train_state.step + 1] = self._figures.load[0].tolist()
        once(self, *args, **named)

    monkeypatch.setattr(TrainingModule, "_account", account)
    config = toy.config(12, points=3, optimizer=AdamWConfig(learning_rate=0.02))
    toy.train(config, toy.prepared(), toy.folder(tmp_path / "run"), toy.RESOURCES)
    evaluated = [row for row in rows(tmp_path / "run") if row["load/1/0"]]
    assert [int(row["step"]) for row in evaluated] == [4, 8, 12]
    for row in rows(tmp_path / "run"):
        rate = 0.02 * config.schedule.factor(int(row["step"]) - 1, 12)
        assert float(row["learning_rate"]) == pytest.approx(rate, rel=1e-12)
    for row in evaluated:
        since = [loads[step] for step in range(int(row["step"]) - 3, int(row["step"]) + 1)]
        for expert in range(4):
            mean = sum(load[expert] for load in since) / 4
            assert float(row[f"load/1/{expert}"]) == pytest.approx(mean, rel=1e-5)


def test_steps_skipped_in_a_row_are_counted_across_a_break(monkeypatch, tmp_path):
    """Two before it and one after are the three after which a run has diverged."""

    class BrokenOffError(Exception):
        pass

    def on_after_backward(self):
        if self.train_state.step in (4, 5, 6):
            next(self.model.parameters()).grad.view(-1)[0] = math.nan

    once, broken = TrainingModule.training_step, [6]

    def training_step(self, batch, batch_idx):
        if self.train_state.step in broken:
            broken.clear()
            raise BrokenOffError
        return once(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "on_after_backward", on_after_backward)
    monkeypatch.setattr(TrainingModule, "training_step", training_step)
    config, folder = toy.config(20, every_step=True), toy.folder(tmp_path / "run")
    with pytest.raises(BrokenOffError):
        toy.train(config, toy.prepared(), folder, toy.RESOURCES)
    result = toy.train(config, toy.prepared(), folder, toy.RESOURCES)
    assert (result.status, result.skipped_steps, result.tokens) == ("diverged", 3, 7 * 32)


@pytest.mark.parametrize("build", [build_optimizer, traced_optimizer])
def test_an_optimizers_options_are_the_runs_and_its_state_the_checkpoints(build):
    theirs = build(AdamWConfig(learning_rate=0.3, weight_decay=0.7, beta1=0.1), Weights())
    ours = build(AdamWConfig(learning_rate=0.2, weight_decay=0.4, beta1=0.2), Weights())
    for group in theirs.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    theirs.step()
    ours.load_state_dict(theirs.state_dict())
    decays = [group["weight_decay"] for group in ours.param_groups]
    assert decays == [0.4, 0.0]
    for group in ours.param_groups:
        assert float(group["lr"]) == pytest.approx(0.2)
        assert group["betas"][0] == 0.2
    assert all(state["step"] == 1 for state in ours.state.values())
