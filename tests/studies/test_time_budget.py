"""A budget of seconds: timed once for a model, and from then on so many tokens."""

import shutil
import subprocess
from dataclasses import replace

import pytest

from glam.config import FilterConfig, HardwareConfig, ModelConfig, RunConfig, TrainingConfig
from glam.errors import UserError
from glam.machine.resources import resolve
from glam.planning.throughput import workload_key
from glam.studies import time_budget as seconds
from glam.studies.time_budget import check_budget, time_budget_warning, time_to_token_budget

TIMED = RunConfig(training=TrainingConfig(seconds=10.0))  # 1,024 tokens a step
HERE = resolve(TIMED)


@pytest.mark.parametrize(
    ("throughput", "tokens"),
    [(2048.0, 20 * 1024), (2100.0, 21 * 1024), (1.0, 1024)],
)
def test_seconds_are_whole_steps_at_the_known_throughput_and_one_at_least(throughput, tokens):
    line = ["model.num_experts=16", "training.seconds=10", "seed=3"]
    known = {workload_key(TIMED, HERE): throughput}
    config, overrides, gone_by = time_to_token_budget(TIMED, HERE, line, known)
    assert (config.training.tokens, config.training.seconds) == (tokens, None)
    words = [f"training.tokens={tokens}", "training.seconds=null"]
    assert overrides == ["model.num_experts=16", "seed=3", *words]
    assert gone_by == known


def test_a_run_without_a_budget_of_seconds_is_left_as_it_is():
    assert time_to_token_budget(RunConfig(), HERE, ["seed=3"]) == (RunConfig(), ["seed=3"], {})


def test_a_workload_is_that_of_any_seed_text_and_budget_of_the_model():
    mine = workload_key(TIMED, HERE)
    for alike in (
        replace(TIMED, seed=7),
        replace(TIMED, training=TrainingConfig(tokens=1000)),
        replace(TIMED, data=replace(TIMED.data, filter=FilterConfig(name="none"))),
    ):
        assert workload_key(alike, HERE) == mine
    for other in (
        replace(TIMED, model=ModelConfig(num_experts=4)),
        replace(TIMED, training=TrainingConfig(batch_size=4)),
    ):
        assert workload_key(other, HERE) != mine


@pytest.mark.parametrize(
    ("config", "line", "words"),
    [
        (TIMED, ["training.tokens=1000"], "training.tokens=1000 and training.seconds=10 are two"),
        (
            replace(TIMED, training=TrainingConfig(tokens_per_parameter=5.5)),
            ["training.tokens=1000"],
            "and training.tokens_per_parameter=5.5 are two budgets; leave one out, or set "
            "training.tokens_per_parameter=null",
        ),
        (
            replace(TIMED, hardware=HardwareConfig(name="node", device="gpu", num_devices=8,
                    peak_tflops=1, share_of_peak=0.5, memory_gb=1)),
            [], "timed on one device of this machine, which hardware=node is not",
        ),
    ],
)  # fmt: skip
def test_two_budgets_and_one_that_cannot_be_timed_are_refused(config, line, words):
    with pytest.raises(UserError, match=words):
        check_budget(config, line)
    check_budget(RunConfig(), ["training.tokens=1000"])


def test_a_budget_that_was_missed_is_told_and_one_that_was_met_is_not():
    assert time_budget_warning(10.0, {"train_seconds": 11.0}) is None
    assert time_budget_warning(10.0, None) is None
    told = time_budget_warning(10.0, {"train_seconds": 25.0})
    assert told is not None
    assert "trained for 25.0 s where training.seconds=10" in told


def test_what_stops_the_timing_is_said_in_the_line(monkeypatch, tmp_path):
    config = replace(TIMED, cache_dir=str(tmp_path))
    with pytest.raises(UserError, match=r"could not be timed: model.num_expert=3: .*did you mean"):
        time_to_token_budget(config, HERE, ["model.num_expert=3"])


@pytest.mark.slow
@pytest.mark.xdist_group("grid")
def test_a_study_keeps_the_tokens_that_its_seconds_were(line, table, tmp_path):
    small = ["model.d_model=16", "model.d_ff=32", "model.num_heads=2", "model.vocab_size=300"]
    budget = ["study.compares=model.num_experts", "study.budget=seconds", "training.seconds=2"]
    grid = ["model.num_experts=1,4", "seed=0,1", "hardware.threads=1", "hydra/launcher=basic"]
    command = line(tmp_path / "runs", *grid, *small, *budget)
    first = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert first.returncode == 0, first.stderr
    assert first.stderr.count(" a second") == 4
    # One for each model, whatever the seed; fewer where other processes used the cores.
    assert len(list(tmp_path.glob("cache/throughput/*.json"))) <= 2
    assert first.stderr.count("timing a few steps") == 2
    before = table(tmp_path / "runs")
    assert len(before) == 4
    shutil.rmtree(tmp_path / "cache")
    again = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert again.returncode == 0, again.stderr
    assert "4 of 4 cells are done already" in again.stderr
    assert table(tmp_path / "runs") == before


def test_the_process_that_times_is_given_no_budget(monkeypatch):
    """Else it would have its own seconds timed, and so on."""
    asked: list[list[str]] = []

    def run(line, **how):
        asked.append(line)
        return subprocess.CompletedProcess(line, 1, "", "no")

    monkeypatch.setattr(seconds.subprocess, "run", run)
    with pytest.raises(UserError, match="could not be timed: no"):
        time_to_token_budget(
            TIMED, HERE, ["training.seconds=10", "task=plan", "study.name=a", "seed=1"]
        )
    assert asked[0][2:] == [
        *("seed=1", f"hardware.threads={HERE.threads}", f"hardware.precision={HERE.precision}"),
        *("training.seconds=null", "task=plan", "task.calibrate=true", "task.format=json"),
        "study.cell=calibrated",
    ]


@pytest.mark.slow
def test_a_plan_of_a_grid_refuses_a_later_cell_before_the_first_is_timed(line, tmp_path):
    grid = ["task=plan", "training.seconds=2", "hardware=auto,tpu_v4_8"]
    ended = subprocess.run(
        line(tmp_path / "runs", *grid), capture_output=True, text=True, timeout=1200
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "which hardware=tpu_v4_8 is not" in ended.stderr
    assert not (tmp_path / "cache").exists()
