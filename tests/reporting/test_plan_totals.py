"""The totals of a grid, and which of its plans are one model."""

from dataclasses import replace

import pytest

from glam.config import HardwareConfig, ModelConfig, RunConfig
from glam.planning.plan import plan
from glam.reporting.plan_totals import groups, totals

ONE_THREAD = replace(RunConfig(), hardware=HardwareConfig(threads=1))
PLANS = [
    plan(replace(ONE_THREAD, model=ModelConfig(num_experts=experts))) for experts in (1, 8, 64)
]


def test_hours_and_joules_are_sums_over_runs():
    found = totals(PLANS, at_once=1)
    assert found.runs == 3
    assert found.hours == found.hours_at_once == pytest.approx(sum(p["hours"] for p in PLANS))
    # 6 W of one core over all the seconds.
    assert found.joules == pytest.approx(6.0 * 3600 * found.hours)


def test_runs_at_once_divide_the_hours_and_not_the_joules():
    one, several = totals(PLANS, at_once=1), totals(PLANS, at_once=2)
    assert several.hours_at_once == pytest.approx(one.hours / 2)
    assert several.joules == one.joules


def test_a_grid_takes_as_long_as_its_longest_run():
    longest = {**PLANS[0], "hours": 100.0}
    assert totals([longest, *PLANS], at_once=4).hours_at_once == 100.0


def test_hours_are_told_apart_by_where_the_throughput_is_from():
    timed = {**PLANS[0], "throughput_kind": "calibrated", "hours": 2.0}
    modelled = sum(one["hours"] for one in PLANS)
    found = totals([timed, *PLANS, timed], at_once=1).hours_by_kind
    assert found == {"calibrated": 4.0, "modelled": pytest.approx(modelled)}


def test_a_device_of_unknown_watts_leaves_the_energy_open():
    assert totals([PLANS[0], {**PLANS[1], "megawatt_hours": None}], at_once=1).joules is None


def test_plans_of_other_seeds_are_one_group():
    cells = [
        {**one, "cell": f"num_experts={experts}, seed={seed}"}
        for one, experts in zip(PLANS, (1, 8, 64), strict=True)
        for seed in range(4)
    ]
    found = groups(cells)
    assert [group.label for group in found] == ["num_experts=1", "num_experts=8", "num_experts=64"]
    assert [group.runs for group in found] == [4, 4, 4]
    assert groups(PLANS)[0].label == "glam_tiny"
