import math

import pytest

from glam.config import LinearScheduleConfig, PaperScheduleConfig
from glam.training.schedules import build_schedule


def test_linear_rises_to_one_and_falls_to_its_final_share():
    factor = build_schedule(LinearScheduleConfig(warmup_fraction=0.1, final_fraction=0.05), 100)
    assert [factor(i) for i in range(10)] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factor(9) == 1
    assert factor(54) == pytest.approx(1 - 0.95 * 45 / 90)
    assert factor(99) == pytest.approx(0.05)


def test_linear_without_warm_up_starts_at_its_peak():
    factor = build_schedule(LinearScheduleConfig(warmup_fraction=0, final_fraction=0), 4)
    assert [factor(i) for i in range(4)] == [0.75, 0.5, 0.25, 0]


def test_linear_may_be_warm_up_alone():
    factor = build_schedule(LinearScheduleConfig(warmup_fraction=1), 5)
    assert [factor(i) for i in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])


def test_the_papers_schedule_holds_then_falls_with_the_root_of_the_step():
    factor = build_schedule(PaperScheduleConfig(hold_steps=10_000), 1_000_000)
    assert factor(0) == factor(9_999) == 1
    assert factor(39_999) == pytest.approx(0.5)
    assert factor(999_999) == pytest.approx(1 / math.sqrt(100))
