"""The first hour on a TPU: figures from files whose figures are known, and what costs a row."""

import csv
import json
import subprocess
import sys
import time

import pytest

from experiments.tpu_first_hour import __main__ as first_hour
from experiments.tpu_first_hour import rows
from experiments.tpu_first_hour.rows import Row
from tests.planning.test_preflight import composed


def logged(folder, losses, seconds):
    """A run's log of a row a step."""
    folder.mkdir(parents=True)
    with (folder / "metrics.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["step", "train_seconds", "loss"])
        table.writerows(zip(range(1, 1 + len(losses)), seconds, losses, strict=True))
    return folder


# Ten seconds for the first step, of which half a second is a step's; later ones take half a second.
SECONDS = [10 + 0.5 * step for step in range(8)]


def test_compiling_is_what_the_first_step_takes_beyond_a_later_one(tmp_path):
    found = rows.pace(logged(tmp_path / "run", [1.0] * 8, SECONDS))
    assert found == rows.Pace(first=9.5, step=0.5)


def test_a_share_of_peak_counts_training_flops_over_those_of_all_chips(tmp_path):
    run = logged(tmp_path / "run", [1.0] * 8, SECONDS)
    plan = {"flops_per_token": {"training": 600}}
    found = {row.figure: row.value for row in rows.speed("m", run, plan, tokens=1000, peak=2.4e6)}
    assert found["tokens per second"] == "2000"
    assert found["share of peak"] == "0.5000"


def test_the_largest_difference_is_found_and_other_lengths_are_refused(tmp_path):
    one = logged(tmp_path / "one", [3.0, 2.0, 1.0], SECONDS[:3])
    other = logged(tmp_path / "other", [3.0, 2.25, 1.125], SECONDS[:3])
    assert rows.difference(one, other) == 0.25
    with pytest.raises(ValueError, match="shorter"):
        rows.difference(one, logged(tmp_path / "short", [3.0], SECONDS[:1]))


def test_memory_is_the_largest_of_all_processes(tmp_path):
    for rank, chip in enumerate((5.0, 7.0)):
        (tmp_path / f"{rank}.json").write_text(json.dumps({"chip": chip, "host": 1.0}))
    found = rows.memory("m", tmp_path, {"bytes_per_device": {"total": 6}})
    assert [row.value for row in found] == ["7", "1", "6"]


def test_what_the_compiler_says_stands_beside_the_count_of_the_same_slice():
    said = {"total_bytes": 70, "route": "torch_tpu", "versions": {"torch_tpu": "0.2.0"}}
    plan = {"bytes_per_device": {"total": 80}, "compiled": said}
    found = rows.compiler("m", plan, "v6e:2x4")
    assert (found.value, found.note) == (
        "70",
        "a loop over layers on v6e:2x4, by torch_tpu 0.2.0; the plan's count of that: 80",
    )


@pytest.mark.parametrize("chips", first_hour.SLICES)
def test_the_compiler_is_asked_of_a_slice_of_as_many_chips(tmp_path, chips):
    words = first_hour.Bench("tpu", chips, "tpu_v6e_8", tmp_path, 0.0).described
    assert composed("task=plan", *words).hardware.devices == chips


def bench(folder, seconds=60.0):
    return first_hour.Bench("cpu", 2, "tpu_v6e_8", folder, time.monotonic() + seconds)


def test_every_check_that_fails_costs_a_row_and_the_others_go_on(tmp_path, monkeypatch):
    def of_steps(bench):
        raise subprocess.CalledProcessError(1, "run.py")

    def of_model(bench, name, overrides):
        return [Row("speed", name, "tokens per second", "1")]

    monkeypatch.setattr(first_hour, "of_steps", of_steps)
    monkeypatch.setattr(first_hour, "of_resume", lambda bench: [Row("resume", "", "x", "0")])
    monkeypatch.setattr(first_hour, "of_model", of_model)
    monkeypatch.setattr(first_hour, "of_compiler", of_model)
    found = first_hour.run_all(bench(tmp_path))
    assert [(row.check, row.figure) for row in found[:2]] == [("steps", "failed"), ("resume", "x")]
    assert {row.model for row in found[2:]} == set(first_hour.DRY_MODELS)
    with (tmp_path / "rows.csv").open() as file:
        assert all(row["device"].startswith("dry run") for row in csv.DictReader(file))


def test_what_finds_no_time_is_left_out(tmp_path):
    assert {row.figure for row in first_hour.run_all(bench(tmp_path, -1.0))} == {"left out"}


def test_tokens_are_those_of_the_last_value_of_each_key():
    assert first_hour.tokens((), 2) == 2 * 8 * 128
    assert first_hour.tokens(("training.batch_size=64",), 1) == 64 * 128


def test_without_a_tpu_the_dry_run_is_named(monkeypatch, capsys):
    monkeypatch.setattr(first_hour, "chips", list)
    monkeypatch.setattr(sys, "argv", ["first_hour"])
    assert first_hour.main() == 2
    assert capsys.readouterr().err == (
        "error: there is no TPU here; make bench-tpu DEVICE=cpu is a dry run\n"
    )
