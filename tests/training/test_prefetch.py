"""Batches arrive in their order, each copied before the step ahead of it begins. The streams of a
GPU are stood in for: what they do is seen on a GPU alone (tests/training/test_gpu.py)."""

import pytest
import torch

from glam.training import prefetch
from glam.training.module import StepBatch
from glam.training.prefetch import OnDevice


def batches(number, events):
    for index in range(number):
        events.append(f"made {index}")
        yield StepBatch(*(torch.full((1, 2), index) for _ in StepBatch._fields))


class Copies:
    def __init__(self, events):
        self.events = events

    def start(self, batch):
        self.events.append(f"started {batch.tokens[0, 0]}")
        return batch

    def finish(self, batch):
        self.events.append(f"finished {batch.tokens[0, 0]}")
        return batch


@pytest.fixture
def events(monkeypatch):
    seen = []
    monkeypatch.setattr(prefetch, "Copies", lambda device: Copies(seen))
    return seen


def test_a_gpu_s_batch_is_on_its_way_before_the_step_ahead_of_it(events):
    for batch in OnDevice(batches(3, events), "cuda"):
        events.append(f"step {batch.tokens[0, 0]}")
    assert events == [
        *("made 0", "started 0", "made 1", "started 1", "finished 0", "step 0"),
        *("made 2", "started 2", "finished 1", "step 1", "finished 2", "step 2"),
    ]


def test_a_cpu_s_batches_are_those_that_came(events):
    made = list(batches(3, []))
    for found, batch in zip(OnDevice(iter(made), "cpu"), made, strict=True):
        assert found is batch
    assert events == []


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_no_batches_are_no_batches(events, device):
    assert list(OnDevice(iter(()), device)) == []
