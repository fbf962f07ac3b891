"""Going back to a healthy checkpoint: when, where to, and without a trace in what follows."""

import copy
import csv
import math
import shutil
import statistics
from dataclasses import replace

import pytest
import torch
import toy
from poisoned import RULES, poison
from safetensors.torch import load_file

from glam.config import AdafactorConfig, AdamWConfig, TrainingConfig
from glam.data import TrainStream
from glam.machine.energy_by_phase import EnergyByPhase
from glam.runs.checkpoints import step_folders, step_of
from glam.training import fit, saving
from glam.training.module import TrainingModule
from glam.training.rollback import FIRST_RISE, LEAST_RISE, SIGMA, LossWatch, in_words
from glam.training.train_state import RunningMeans, TrainState

TIMES = ("train_seconds", "tokens_per_second", "joules")


def watch(num_steps=100, **changes):
    rules = {"spike_window": 4, "rollback_every": 3, **changes}
    return LossWatch(TrainingConfig(tokens=num_steps * 1024, **rules))


def shown(found, losses):
    for loss in losses:
        found.see(loss)
    return found


def test_a_spike_lies_above_the_median_by_so_many_deviations():
    losses = [3.0, 3.4, 2.9, 3.3]
    median = statistics.median(losses)
    deviation = statistics.median(abs(loss - median) for loss in losses)
    limit = median + 10 * SIGMA * deviation
    assert shown(watch(), [9.0, 9.0, *losses, limit - 1e-9]).alarm is None
    found = shown(watch(), [9.0, 9.0, *losses, limit + 1e-9])
    assert (found.alarm.step, found.alarm.reason) == (7, "loss spike")
    assert found.alarm.limit == pytest.approx(limit)


def test_a_small_rise_is_no_spike_however_even_the_losses_were():
    assert shown(watch(), [3.0] * 4 + [3.0 + LEAST_RISE - 1e-6]).alarm is None
    assert shown(watch(), [3.0] * 4 + [3.0 + LEAST_RISE + 1e-6]).alarm is not None


def test_until_the_window_is_full_a_loss_is_judged_by_the_first_one():
    assert shown(watch(), [4.0, 4.0 * FIRST_RISE - 0.01]).alarm is None
    assert shown(watch(), [4.0, 1.0, 4.0 * FIRST_RISE + 0.01]).alarm.step == 3


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_raises_the_alarm_from_the_first_step_on(loss):
    found = shown(watch(spike_threshold=None), [loss])
    assert (found.alarm.step, found.alarm.loss) == (1, None)


def test_without_a_threshold_nothing_finite_is_a_spike():
    assert shown(watch(spike_threshold=None), [1.0] * 8 + [1e30]).alarm is None


def at_anchors(found, *steps):
    found.anchors |= {step: 10.0 * step for step in steps}
    return found


@pytest.mark.parametrize(("alarm_at", "healthy"), [(3, 0), (7, 0), (8, 3), (10, 3), (11, 6)])
def test_healthy_is_what_a_full_window_without_an_alarm_follows(alarm_at, healthy):
    found = shown(at_anchors(watch(), 3, 6, 9), [1.0] * (alarm_at - 1))
    assert found.healthy() <= healthy
    found.see(math.nan)
    assert found.healthy() == healthy
    rollback = found.rollback(healthy, seconds=500.0)
    assert (rollback.step, rollback.restored_step) == (alarm_at, healthy)
    assert (rollback.first_batch, rollback.last_batch) == (healthy, alarm_at - 1)
    assert rollback.lost_seconds == 500.0 - 10.0 * healthy


def test_only_checkpoints_that_may_be_gone_back_to_are_kept():
    there = {3, 6, 9}
    found = shown(at_anchors(watch(), *there), [1.0] * 9)
    assert found.needed(there) == {3, 6, 9}
    assert shown(found, [1.0]).needed(there) == {6, 9}
    assert found.needed(there - {6}) == {3, 9}  # the healthy one could not be written
    assert shown(found, [1.0] * 90).needed(there) == set()  # the run is done


def test_each_return_leaves_out_the_batches_after_those_left_out_before():
    found = shown(at_anchors(watch(), 3), [1.0] * 7 + [math.nan])
    first = found.rollback(3, 0.0)
    again = LossWatch(found.training, (first,))
    again.load_state_dict(shown(at_anchors(watch(), 3), [1.0] * 3).state_dict())
    assert again.step + again.shift == first.last_batch + 1 == 8
    assert shown(again, [1.0, math.nan]).healthy() == 3  # it still is
    second = again.rollback(3, 0.0)
    assert (second.first_batch, second.last_batch) == (8, 9)


def test_a_return_to_before_an_earlier_one_leaves_out_all_since():
    """The checkpoint of step 3 is lost, and the batches before it are gone with it."""
    found = shown(at_anchors(watch(), 3), [1.0] * 7 + [math.nan])
    first = found.rollback(3, 0.0)
    again = LossWatch(found.training, (first,))
    again.load_state_dict(shown(at_anchors(watch(), 3), [1.0] * 3).state_dict())
    second = shown(again, [math.nan]).rollback(0, 0.0)
    assert (second.first_batch, second.last_batch) == (0, 8)
    assert LossWatch(found.training, (first, second)).shift == 9


def test_losses_are_judged_from_where_a_checkpoint_of_version_0_2_stands():
    means = RunningMeans(num_sources=1, load_shape=(1, 1), device="cpu")
    made = TrainState(means, TrainingConfig(), EnergyByPhase())
    made.step = 500
    saved = made.state_dict()
    del saved["watch"]
    found = TrainState(means, TrainingConfig(), EnergyByPhase())
    found.load_state_dict(saved)
    assert (found.watch.step, found.watch.alarm) == (500, None)


def test_the_default_checkpoints_are_sixteen_at_most_a_thousand_steps_apart():
    assert watch(1600, rollback_every=None).training.rollback_steps == 100
    assert watch(160, rollback_every=None).training.rollback_steps == 10
    assert watch(16, rollback_every=None).training.rollback_steps == 4  # the window
    assert watch(10**6, rollback_every=None).training.rollback_steps == 1000


# A run of 40 steps that can go back to every fifth.


def config(steps=40, *, every_step=False, **training):
    made = toy.config(steps, every_step=every_step, optimizer=AdamWConfig(learning_rate=0.02))
    return replace(made, training=replace(made.training, **{**RULES, **training}))


def run(path, made=None, **others):
    return toy.train(made or config(), toy.prepared(), toy.folder(path), toy.RESOURCES, **others)


def rows(path):
    with (path / "metrics.csv").open(newline="") as lines:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(lines)]


def folders(path):
    return sorted(folder.name for folder in (path / "checkpoints").glob("step-*"))


def state(path, step):
    folder = path / "checkpoints" / f"step-{step:08d}"
    whole = torch.load(folder / "state.pt", weights_only=True)
    return load_file(folder / "model.safetensors"), whole


def assert_same_end(one, other, step=40):
    assert rows(one) == rows(other)
    (mine, left), (theirs, right) = state(one, step), state(other, step)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    moments, same = (each["optimizer_states"][0]["state"] for each in (left, right))
    for number, values in same.items():
        for name, value in values.items():
            assert torch.equal(torch.as_tensor(moments[number][name]), torch.as_tensor(value))
    for each in (left, right):
        for rollback in each["training"]["watch"]["rollbacks"]:
            rollback.pop("lost_seconds")
        each["training"]["watch"].pop("anchors")  # hold seconds
    assert left["training"]["watch"] == right["training"]["watch"]


def first_weights_at(monkeypatch, step):
    """Weights and optimizer state before the step of that number, each time that it is taken."""
    seen, once = [], TrainingModule.training_step

    def training_step(self, batch, batch_idx):
        if self.train_state.step == step:
            weights = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
            moments = copy.deepcopy(self.optimizers(use_pl_optimizer=False).state_dict()["state"])
            seen.append((weights, moments, batch))
        return once(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", training_step)
    return seen


def test_a_poisoned_run_ends_within_the_noise_of_clean_ones(tmp_path, monkeypatch, caplog):
    clean = [run(tmp_path / f"{seed}", replace(config(), seed=seed)) for seed in range(4)]
    assert [each.rollbacks for each in clean] == [()] * 4
    losses = [float(rows(tmp_path / f"{seed}")[-1]["held_out/mean"]) for seed in range(4)]
    poison(monkeypatch, 25, 33)
    result = run(tmp_path / "poisoned")
    first, second = result.rollbacks
    assert (first.step, first.restored_step) == (26, 15)
    assert (first.first_batch, first.last_batch) == (15, 25)
    assert first.loss > first.limit
    # The next poisoned batch comes before a full window has followed another checkpoint.
    assert (second.step, second.restored_step) == (23, 15)
    assert (second.first_batch, second.last_batch) == (26, 33)
    assert 0 < first.lost_seconds + second.lost_seconds < result.train_seconds
    said = [line.getMessage() for line in caplog.records if line.levelname == "WARNING"]
    assert said[0] == f"{in_words(first)} (rollback 1 of 10)"
    assert "back to step 15, without batches 15 to 25" in said[0]
    ended = float(rows(tmp_path / "poisoned")[-1]["held_out/mean"])
    noise = statistics.stdev(losses)
    assert abs(ended - statistics.mean(losses)) < 3 * noise


def test_weights_after_a_return_are_those_of_the_checkpoint(tmp_path, monkeypatch):
    served = poison(monkeypatch, 25)
    before = first_weights_at(monkeypatch, 15)
    result = run(tmp_path)
    assert (result.status, result.tokens) == ("done", 40 * 32)
    assert list(dict.fromkeys(served)) == [*range(51)]  # each once, but for what was fetched ahead
    first, second = before
    for name, weight in first[0].items():
        assert torch.equal(second[0][name], weight)
    for number, values in first[1].items():
        for name, value in values.items():
            assert torch.equal(torch.as_tensor(second[1][number][name]), torch.as_tensor(value))
    expected = TrainStream(toy.prepared(), 16, 2, 0).batch(26)
    assert second[2].tokens.tolist() == expected.tokens.tolist()
    steps = [int(row["step"]) for row in rows(tmp_path)]
    assert steps == sorted(set(steps))
    assert steps[-1] == 40


@pytest.mark.parametrize("when", ["before the window is full", "by NaN"])
def test_without_a_healthy_checkpoint_a_run_begins_anew_with_other_batches(
    tmp_path, monkeypatch, when
):
    number = 3 if when == "by NaN" else 6
    once = TrainingModule.training_step
    served = poison(monkeypatch)
    bad = TrainStream(toy.prepared(), 16, 2, 0).batch(number).tokens.tolist()

    def training_step(self, batch, batch_idx):
        loss = once(self, batch, batch_idx)
        if batch.tokens.tolist() == bad:
            self._loss = self._loss * (math.nan if when == "by NaN" else 4)
        return loss

    monkeypatch.setattr(TrainingModule, "training_step", training_step)
    before = first_weights_at(monkeypatch, 0)
    result = run(tmp_path, config(12))
    assert list(dict.fromkeys(served))[1:] == [*range(number), *range(number + 1, number + 13)]
    [rollback] = result.rollbacks
    assert (rollback.restored_step, rollback.loss is None) == (0, when == "by NaN")
    (first, none, _), (second, still_none, _) = before
    assert none == still_none == {}
    assert all(torch.equal(second[name], weight) for name, weight in first.items())
    assert result.status == "done"


def test_a_clean_run_is_the_same_with_and_without_the_watch(tmp_path):
    run(tmp_path / "with")
    without = config(spike_threshold=None, max_rollbacks=0, rollback_every=1000)
    run(tmp_path / "without", without)
    assert rows(tmp_path / "with") == rows(tmp_path / "without")
    mine, theirs = (state(tmp_path / name, 40)[0] for name in ("with", "without"))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


class KilledError(Exception):
    """Nothing more is done, as after kill -9."""


def kill_at(patch, owner, name, call, *, after=False):
    """Kill the run at that call of a function: instead of it, or after it."""
    once, calls = getattr(owner, name), []

    def killed(*args, **named):
        calls.append(name)
        if len(calls) == call and not after:
            raise KilledError
        found = once(*args, **named)
        if len(calls) == call:
            raise KilledError
        return found

    patch.setattr(owner, name, killed)


def remove_one(checkpoints, up_to):
    """`remove_partial`, killed after the first folder."""
    removed = [f for f in step_folders(checkpoints) if step_of(f) > up_to][:1]
    for folder in removed:
        shutil.rmtree(folder)
    if removed:
        raise KilledError


# The alarm comes in the 26th step; the 27th is step 15 again.
MOMENTS = {
    "before the checkpoint is found": (fit, "in_words", 1),
    "before it is loaded": (fit, "_Loop", 2),
    "before later checkpoints are removed": (saving, "remove_partial", 2),
    "among them": None,
    "before the first step": (TrainingModule, "training_step", 27),
    "after the first save": (TrainingModule, "training_step", 28),
    "before the next checkpoint to go back to": (TrainingModule, "training_step", 32),
    "after it": (TrainingModule, "training_step", 33),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_a_rollback_or_after_it_a_run_ends_bit_for_bit(tmp_path, monkeypatch, moment):
    poison(monkeypatch, 25, 33)
    made = config(every_step=True)
    run(tmp_path / "straight", made)
    with monkeypatch.context() as patch:
        if (call := MOMENTS[moment]) is None:
            patch.setattr(saving, "remove_partial", remove_one)
        else:
            kill_at(patch, *call)
        with pytest.raises(KilledError):
            run(tmp_path / "killed", made)
    # Once more, in the rollback that the resumed run repeats, or in the next one.
    with monkeypatch.context() as patch:
        kill_at(patch, fit, "_Loop", 2, after=True)
        with pytest.raises(KilledError):
            run(tmp_path / "killed", made)
    run(tmp_path / "killed", made)
    assert_same_end(tmp_path / "straight", tmp_path / "killed")
    assert len(state(tmp_path / "killed", 40)[1]["training"]["watch"]["rollbacks"]) == 2
    assert folders(tmp_path / "straight") == folders(tmp_path / "killed")


def test_a_checkpoint_that_cannot_be_read_is_replaced_by_the_one_before(
    tmp_path, monkeypatch, caplog
):
    poison(monkeypatch, 25)
    see = LossWatch.see

    def damaging(self, loss):
        see(self, loss)
        if self.goes_back:
            (tmp_path / "checkpoints" / "step-00000015" / "state.pt").write_bytes(b"damaged")

    monkeypatch.setattr(LossWatch, "see", damaging)
    result = run(tmp_path)
    assert [rollback.restored_step for rollback in result.rollbacks] == [0]
    assert (result.status, result.rollbacks[0].last_batch) == ("done", 25)
    assert "there is no whole checkpoint of step 15 to go back to" in caplog.text


@pytest.mark.parametrize(
    "optimizer", [AdamWConfig(learning_rate=10), AdafactorConfig(learning_rate=1e4)]
)
def test_a_learning_rate_that_must_diverge_does(tmp_path, optimizer):
    made = replace(config(max_rollbacks=3), optimizer=optimizer)
    result = run(tmp_path, made)
    assert result.status == "diverged"
    assert [rollback.restored_step for rollback in result.rollbacks] == [0, 0, 0]
    assert "after 3 rollbacks" in result.why_diverged
    again = run(tmp_path, made)  # which is final
    assert (again.status, again.rollbacks) == ("diverged", result.rollbacks)
    assert again.why_diverged == result.why_diverged


def spoil_last_update(monkeypatch, times):
    """The last update makes the weights useless, as a step into a bad region does."""
    finish, spoilt = TrainState.finish_step, []

    def finish_step(self, tokens, *, skipped):
        finish(self, tokens, skipped=skipped)
        if self.step == 12 and len(spoilt) < times:
            spoilt.append(self.step)
            module[-1].model.embedding.w_VM.data.fill_(math.nan)

    module, once = [], TrainingModule.training_step

    def training_step(self, batch, batch_idx):
        module.append(self)
        return once(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", training_step)
    monkeypatch.setattr(TrainState, "finish_step", finish_step)


def test_weights_that_the_last_step_spoils_are_noticed(tmp_path, monkeypatch):
    spoil_last_update(monkeypatch, 1)
    result = run(tmp_path / "once", config(12))
    assert (result.status, len(result.rollbacks)) == ("done", 1)
    assert all(weight.isfinite().all() for weight in result.model.parameters())
    assert result.rollbacks[0].reason == "held-out loss was NaN or Inf after the last step"


def test_weights_that_every_last_step_spoils_have_diverged(tmp_path, monkeypatch):
    spoil_last_update(monkeypatch, 99)
    result = run(tmp_path, config(12, max_rollbacks=2))
    assert (result.status, len(result.rollbacks)) == ("diverged", 2)
    assert run(tmp_path, config(12, max_rollbacks=2)).status == "diverged"


def test_nan_gradients_up_to_the_last_step_are_skipped_and_nan_losses_are_not_done(
    tmp_path, monkeypatch
):
    """Fewer than `max_skipped` steps before the end the loss becomes NaN for good."""
    once = TrainingModule.training_step

    def training_step(self, batch, batch_idx):
        if self.train_state.step == 10:
            self.model.embedding.w_VM.data.fill_(math.nan)
        return once(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", training_step)
    result = run(tmp_path, config(12, max_rollbacks=1, max_skipped=50))
    assert (result.status, len(result.rollbacks)) == ("diverged", 1)


def test_seconds_and_joules_of_what_was_left_out_count_once(tmp_path, monkeypatch):
    class Meter:
        """One joule every time that it is read."""

        shown = 0.0

        def start(self):
            pass

        def joules(self):
            self.shown += 1
            return self.shown

    poison(monkeypatch, 25)
    meter = Meter()
    result = run(tmp_path, energy_by_phase=EnergyByPhase(meter))
    assert sum(result.joules().values()) <= meter.shown
    [rollback] = result.rollbacks
    with (tmp_path / "metrics.csv").open(newline="") as lines:
        seconds = [float(row["train_seconds"]) for row in csv.DictReader(lines)]
    assert seconds == sorted(seconds)
    assert result.train_seconds > rollback.lost_seconds + seconds[2]


def test_wandb_is_told_and_gets_the_rows_from_there_again(tmp_path, monkeypatch):
    told = []

    class Tracker:
        def log(self, row, rollbacks):
            told.append(row["tokens"])

        def go_back(self, tokens, rollbacks):
            told.append((tokens, len(rollbacks)))

    poison(monkeypatch, 25)
    run(tmp_path, tracker=Tracker())
    at = told.index((15 * 32, 1))
    assert told[at - 1] == 25 * 32
    assert told[at + 1] == 20 * 32
