"""What the bar and metrics.csv are told between steps."""

import pytest
import torch

from glam.config import TrainingConfig
from glam.machine.energy_by_phase import EnergyByPhase
from glam.progress import Bar
from glam.training.callbacks import ProgressBar, evaluation_steps
from glam.training.train_state import RunningMeans, TrainState


@pytest.fixture
def clock(monkeypatch):
    """The seconds that every clock shows."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def test_the_bars_speed_is_of_training_alone(clock):
    state = TrainState(RunningMeans(1, (1, 1), "cpu"), TrainingConfig(), EnergyByPhase())
    bar = Bar("train", 4)
    callback = ProgressBar(state, bar)

    def step():
        clock[0] += 2.0
        state.finish_step(100, skipped=False)
        callback.on_train_batch_end(None, None, {"loss": torch.tensor(1.0)}, None, 0)

    state.start()
    callback.on_train_start(None, None)
    step()
    assert bar.notes == {"loss": 1.0, "tokens_per_second": 50.0}
    with state.evaluating():
        clock[0] += 60.0
    step()
    assert bar.notes["tokens_per_second"] == 50.0
    clock[0] += 6.0  # a slow step, too few for the bar to see
    state.finish_step(100, skipped=False)
    state.stop()
    callback.on_train_end(None, None)
    assert (bar.done, bar.notes["tokens_per_second"]) == (3, 30.0)


@pytest.mark.parametrize(("points", "steps"), [(1, {10}), (2, {5, 10}), (20, set(range(1, 11)))])
def test_evaluations_are_spread_evenly_and_the_last_step_is_one(points, steps):
    assert evaluation_steps(points, 10) == steps
