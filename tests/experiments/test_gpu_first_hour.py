"""The first ten minutes on a GPU: what is run, in which order, and what a failure costs."""

import csv
import json
import subprocess
import sys
import time

import pytest

from experiments.gpu_first_hour import __main__ as first_hour
from experiments.gpu_first_hour import parts, step, turns
from experiments.tpu_first_hour.rows import Row
from glam.machine import compiled, resources


@pytest.fixture
def gpu(monkeypatch):
    """A card, as the machine would describe it, by its GB."""

    def of(gigabytes):
        monkeypatch.setattr(resources, "_has_cuda", lambda: True)
        monkeypatch.setattr(resources, "_memory_of", lambda device: int(gigabytes * 2**30))
        monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: name)

    return of


def bench(folder, device="cpu", seconds=60.0):
    return first_hour.Bench(device, "a device", folder, time.monotonic() + seconds)


@pytest.mark.parametrize(
    ("gigabytes", "largest"),
    [(140, "1.7B/64E, 16 rows"), (79.6, "1.7B/32E, 16 rows"), (24, None)],
)
def test_the_largest_model_whose_plan_fits_is_taken(tmp_path, gpu, gigabytes, largest):
    gpu(gigabytes)
    found = list(first_hour.lines(bench(tmp_path, "cuda")))
    wanted = [largest] if largest else []
    assert found == [*wanted, *first_hour.STEP_LINES]


def test_what_is_wanted_most_comes_first(tmp_path, gpu):
    gpu(140)
    checks = list(first_hour.checks_of(bench(tmp_path, "cuda")))
    assert checks[:3] == ["attention", "1.7B/64E, 16 rows", "0.1B/64E"]
    assert {*first_hour.PARTS} <= {*checks}


def test_a_check_that_fails_costs_a_row_and_leaves_what_it_said(tmp_path, monkeypatch):
    def run(bench, module, *words):
        if words[0] == "experts":
            raise subprocess.CalledProcessError(1, module, stderr="Traceback\nError: no memory")
        if words[0] == "loss":
            raise subprocess.TimeoutExpired(module, 1)
        return [Row(words[0], "", "ms", "1")]

    monkeypatch.setattr(first_hour.Bench, "run", run)
    found = {row.check: row for row in first_hour.run_all(bench(tmp_path))}
    assert (found["experts"].figure, found["experts"].note) == ("failed", "Error: no memory")
    assert (found["loss"].figure, found["mixtral"].figure) == ("cut off", "ms")
    assert "Traceback" in (tmp_path / "parts-experts.txt").read_text()
    with (tmp_path / "rows.csv").open() as file:
        assert {row["device"] for row in csv.DictReader(file)} == {"a device"}


def test_what_finds_no_time_is_left_out(tmp_path):
    found = first_hour.run_all(bench(tmp_path, seconds=-1.0))
    assert {row.figure for row in found} == {"left out"}


def test_without_a_gpu_the_dry_run_is_named(monkeypatch, capsys):
    monkeypatch.setattr(resources, "_has_cuda", lambda: False)
    monkeypatch.setattr(sys, "argv", ["first_hour"])
    assert first_hour.main() == 2
    assert "make bench-gpu DEVICE=cpu is a dry run" in capsys.readouterr().err


def test_a_ratio_is_of_turns_of_the_same_round(monkeypatch):
    # A slower machine in the second round changes no ratio.
    clock = iter([*[0, 1, 0, 2], *[0, 1, 0, 2], *[0, 5, 0, 10], *[0, 1, 0, 2]])
    monkeypatch.setattr(turns, "ROUNDS", 3)
    monkeypatch.setattr(turns.time, "perf_counter", lambda: next(clock))
    found = turns.turns({"one": lambda: None, "two": lambda: None}, "one")
    assert found == {"one": turns.Turn(1, 1), "two": turns.Turn(2, 2)}


@pytest.mark.parametrize("part", ["attention", "loss"])
def test_every_part_gives_rows_that_name_what_was_timed(part):
    found = parts.PARTS[part]("cpu")
    assert [row for row in found if row.figure == "ms"]
    assert all(float(row.value) > 0 for row in found)


@pytest.mark.parametrize("filling", [False, True])
def test_steps_are_those_of_training(filling):
    words = ["model=glam_micro", "hardware=cpu", "optimizer=adafactor"]
    config = step.config_of([*words, *(first_hour.FILLS if filling else ())])
    model = step.built(config, resources.resolve(config))
    before = [p.detach().clone() for p in model.parameters()]
    step.stepping(config, model)(step.batch_of(config, "cpu"))
    moved = [bool((a != b).any()) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2
    found = {row.figure: row.value for row in step.rows_of("micro", 2, config)}
    assert float(found["tokens per second"]) > 0
    assert found["MFU"] == ""  # of a CPU, whose peak nobody has said
    assert json.loads(found["bytes, plan"]) > 0
