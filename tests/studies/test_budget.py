"""What a whole grid costs, from what its runs cost."""

import re
from dataclasses import replace

import pytest

from glam.config import HardwareConfig, ModelConfig, RunConfig
from glam.planning.plan import plan
from glam.studies.budget import cost_line


def configs(**hardware):
    base = replace(RunConfig(), hardware=HardwareConfig(threads=1, **hardware))
    return [replace(base, model=ModelConfig(num_experts=experts)) for experts in (1, 8, 64)]


def test_a_grid_costs_the_sum_of_its_runs():
    hours = sum(plan(config, beside_others=True)["hours"] for config in configs())
    found = re.search(r"3 runs: ([\d.]+) hours", cost_line(configs()))
    assert found is not None
    assert float(found[1]) == pytest.approx(hours, abs=0.005)


def test_runs_at_once_divide_the_hours_and_not_the_joules(monkeypatch):
    monkeypatch.setattr("glam.studies.budget.num_cores", lambda: 2)
    several, one = cost_line(configs()), cost_line(configs(max_jobs=1))
    assert "with 2 at once" in several
    assert "with 1 at once" in one
    assert several.split(", ")[2] == one.split(", ")[2]


def test_no_more_runs_are_at_once_than_there_are(monkeypatch):
    monkeypatch.setattr("glam.studies.budget.num_cores", lambda: 8)
    assert "with 3 at once" in cost_line(configs())
