"""What a job of a grid is told to run, and what it is weighed by."""

import sys
from dataclasses import replace

import pytest

from glam.config import HardwareConfig, ModelConfig, RunConfig, from_mapping
from glam.machine.resources import resolve
from glam.planning.memory import memory
from glam.runs.identity import run_id
from glam.studies.jobs import job_of
from glam.studies.study import Cell, TrainingCell

GPU_LIKE = HardwareConfig(precision="float32", memory_gb=8)


def cell(experts: int, hardware: HardwareConfig = GPU_LIKE) -> TrainingCell:
    config = RunConfig(model=ModelConfig(num_experts=experts), hardware=hardware)
    overrides = [f"model.num_experts={experts}"]
    one = Cell(values={"model.num_experts": experts}, config=config, overrides=overrides)
    return TrainingCell.of(one, resolve(config, one_of_many=True))


def test_a_job_is_weighed_by_what_planning_predicts_of_its_cell():
    small, large = (job_of(cell(count)) for count in (8, 64))
    predicted = [memory(cell(count).config, "float32").total for count in (8, 64)]
    assert [small.memory_bytes, large.memory_bytes] == predicted
    assert small.memory_bytes < large.memory_bytes
    assert large.device_bytes == 8_000_000_000
    assert large.command[0] == sys.executable


def test_several_processes_share_the_memory_of_one_machine():
    node = HardwareConfig(
        name="cpu_node", device="cpu", precision="float32", mesh={"expert": 2},
        rules={"batch": "expert", "experts": "expert"}, memory_gb=1, peak_tflops=1,
        share_of_peak=0.1,
    )  # fmt: skip
    job = job_of(cell(8, node))
    needed = memory(cell(8, node).config, "float32").total
    assert (job.threads, job.memory_bytes) == (2, 2 * needed)


def test_a_process_gets_the_configuration_as_it_was_composed():
    one = cell(8).within("experts")
    job = job_of(one)
    assert job.cell is not None
    assert from_mapping(RunConfig, job.cell["config"]) == one.with_hardware(threads=1).config
    assert 'study.cell="num_experts=8"' in job.cell["overrides"]
    assert job.name == "num_experts=8"


def test_a_process_trains_the_run_that_the_study_lists_and_not_that_of_a_run_alone(monkeypatch):
    monkeypatch.setattr("glam.machine.resources.num_cores", lambda: 8)
    one = cell(8)
    job = job_of(one)
    assert job.cell is not None
    config = from_mapping(RunConfig, job.cell["config"])
    assert resolve(one.config).threads > 1  # alone
    assert run_id(config, resolve(config)) == one.run.id


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_another_machine_trains_the_run_that_this_machine_resolved(precision):
    one = cell(8, replace(GPU_LIKE, precision=precision))
    job = job_of(one, remote=True)
    assert job.cell is not None
    config = from_mapping(RunConfig, job.cell["config"])
    assert config.hardware.threads == one.resources.threads
    assert config.hardware.precision == one.resources.precision
    assert config.hardware.device == "cpu"
    assert run_id(config, resolve(config)) == one.run.id
