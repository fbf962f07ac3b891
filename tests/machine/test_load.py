"""What other processes take of the cores while something is timed."""

from types import SimpleNamespace

import psutil
import pytest

from glam.machine import load
from glam.machine.load import LoadMeter, OtherLoad


@pytest.fixture
def counters(monkeypatch):
    """The machine's totals, to be moved on by hand: seconds of wall time, cores, this process."""
    now = SimpleNamespace(wall=0.0, user=100.0, idle=50.0, steal=0.0, own=10.0)
    monkeypatch.setattr(load.time, "perf_counter", lambda: now.wall)
    monkeypatch.setattr(
        psutil,
        "cpu_times",
        lambda: SimpleNamespace(user=now.user, system=0.0, idle=now.idle, steal=now.steal),
    )
    monkeypatch.setattr(
        psutil, "Process", lambda: SimpleNamespace(cpu_times=lambda: SimpleNamespace(
            user=now.own, system=0.0)))  # fmt: skip
    return now


def test_own_work_is_no_load(counters):
    meter = LoadMeter.start()
    counters.wall, counters.user, counters.own, counters.idle = 10.0, 115.0, 24.0, 55.0
    counters.steal = 2.0
    measured = meter.stop()
    assert measured == pytest.approx(OtherLoad(others=0.1, stolen=0.2))


def test_clocks_that_tick_apart_make_no_negative_load(counters):
    meter = LoadMeter.start()
    counters.wall, counters.own = 1.0, 10.5
    assert meter.stop() == OtherLoad(0.0, 0.0)


@pytest.mark.parametrize(
    ("threads", "others", "stolen", "slows"),
    [
        (1, 0.1, 0.0, False),
        (1, 2.9, 0.0, False),  # three of four cores are free for others
        (1, 3.5, 0.0, True),
        (4, 0.1, 0.0, False),
        (4, 0.5, 0.0, True),
        (8, 0.1, 0.0, False),
        (1, 0.0, 0.5, True),
    ],
)
def test_load_slows_where_fewer_cores_are_left_than_threads(
    threads, others, stolen, slows, monkeypatch
):
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 4)
    assert OtherLoad(others, stolen).slows(threads) is slows


def test_load_is_told_in_cores(monkeypatch):
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 4)
    assert str(OtherLoad(3.52, 0.0)) == "other processes kept 3.5 of 4 cores busy"
    assert str(OtherLoad(0.0, 0.5)).endswith("0.0 of 4 cores busy, the hypervisor took 0.5")
