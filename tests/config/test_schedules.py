import math

import pytest

from glam.config import LinearScheduleConfig, PaperScheduleConfig


def test_linear_rises_to_one_and_falls_to_its_final_share():
    schedule = LinearScheduleConfig(warmup_fraction=0.1, final_fraction=0.05)
    assert [schedule.factor(i, 100) for i in range(10)] == pytest.approx(
        [(i + 1) / 10 for i in range(10)]
    )
    assert schedule.factor(9, 100) == 1
    assert schedule.factor(54, 100) == pytest.approx(1 - 0.95 * 45 / 90)
    assert schedule.factor(99, 100) == pytest.approx(0.05)


def test_linear_without_warm_up_starts_at_its_peak():
    schedule = LinearScheduleConfig(warmup_fraction=0, final_fraction=0)
    assert [schedule.factor(i, 4) for i in range(4)] == [0.75, 0.5, 0.25, 0]


def test_linear_may_be_warm_up_alone():
    schedule = LinearScheduleConfig(warmup_fraction=1)
    assert [schedule.factor(i, 5) for i in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])


def test_the_papers_schedule_holds_then_falls_with_the_root_of_the_step():
    schedule = PaperScheduleConfig(hold_steps=10_000)
    assert schedule.factor(0, 1_000_000) == schedule.factor(9_999, 1_000_000) == 1
    assert schedule.factor(39_999, 1_000_000) == pytest.approx(0.5)
    assert schedule.factor(999_999, 1_000_000) == pytest.approx(1 / math.sqrt(100))
