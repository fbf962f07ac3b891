"""Seconds go to the phase that went on, and all phases together are the whole."""

import time

import pytest

from glam.machine import seconds_by_phase
from glam.machine.seconds_by_phase import SecondsByPhase


@pytest.fixture
def clocks(monkeypatch):
    """Clocks that stand still until they are moved: seconds by the wall, half of it computing."""

    class Moved:
        now = 1000.0

        def perf_counter(self):
            return self.now

        def process_time(self):
            return (self.now - 1000) / 2

        def time(self):
            return time.time()

    moved = Moved()
    monkeypatch.setattr(seconds_by_phase, "time", moved)
    return moved


def test_a_phase_within_another_is_not_counted_for_it(clocks):
    seconds = SecondsByPhase()
    seconds.enter("training")
    clocks.now += 10
    with seconds.on("evaluation"):
        clocks.now += 2
        with seconds.on("checkpoints"):
            clocks.now += 1
        clocks.now += 4
    clocks.now += 20
    spent = seconds.spent
    assert (spent["training"].wall, spent["training"].cpu) == (30, 15)
    assert (spent["evaluation"].wall, spent["evaluation"].cpu) == (6, 3)
    assert (spent["checkpoints"].wall, spent["checkpoints"].times) == (1, 1)


def test_what_has_no_name_is_the_start_until_the_first_step_and_then_the_end(clocks):
    seconds = SecondsByPhase()
    started = seconds.spent["start"].wall
    with seconds.on("preparation"):
        clocks.now += 5
    clocks.now += 7
    seconds.enter("training")
    clocks.now += 9
    seconds.enter(None)
    clocks.now += 3
    spent = seconds.spent
    assert spent["start"].wall == pytest.approx(started + 7)
    assert (spent["preparation"].wall, spent["training"].wall, spent["end"].wall) == (5, 9, 3)


def test_what_fails_ends_its_phase(clocks):
    seconds = SecondsByPhase()

    def fail():
        with seconds.on("evaluation"):
            clocks.now += 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    clocks.now += 100
    assert seconds.spent["evaluation"].wall == 1


def test_the_start_is_the_processs_own():
    assert 0 < SecondsByPhase().spent["start"].wall < 3600 * 24
