"""What the scripts of cost say of rows is so."""

import csv
import json
import re

import pytest

from experiments.growth import pace, run_time
from experiments.growth.sizes import sized
from experiments.growth.theory import Machine, constant
from experiments.peers.__main__ import table
from glam.machine.energy import WATTS_PER_CORE


def test_the_constant_of_a_line_lies_among_its_points():
    assert constant([2.0, 8.0], [1.0, 1.0]) == pytest.approx(4)


def test_theory_doubles_with_the_tokens_and_grows_with_the_square_of_the_length():
    machine = Machine(flops_per_second=1e11, bytes_per_second=1e30)
    one, two = (sized("tokens", n, "float32").seconds(machine) for n in (4096, 8192))
    assert two == pytest.approx(2 * one)
    lengths = [sized("length", n, "float32").flops for n in (1024, 2048, 4096)]
    assert lengths[2] - lengths[1] == pytest.approx(2 * (lengths[1] - lengths[0]))


def test_more_experts_cost_bytes_and_hardly_flops():
    few, many = (sized("experts", n, "float32") for n in (8, 512))
    assert many.flops < 1.1 * few.flops
    assert many.bytes_moved > 20 * few.bytes_moved
    assert many.bytes_held > 15 * few.bytes_held


def test_pace_is_read_by_the_minute_of_cpu_time(tmp_path):
    """Steps of 100 ms in the first minute and 150 ms in the second."""
    rows, cpu, step = [], 0.0, 0
    while cpu < 120:
        rows.append({"step": step, "joules": cpu * WATTS_PER_CORE})
        cpu, step = cpu + 20 * (0.1 if cpu < 60 else 0.15), step + 20
    with (tmp_path / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "joules"])
        writer.writeheader()
        writer.writerows(rows)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    held = [(30.0, 100e6), (90.0, 110e6)]
    first, second = pace._by_minute(read, held, 2)
    assert first["cpu_ms_a_step"] == pytest.approx(100)
    assert second["cpu_ms_a_step"] == pytest.approx(150)
    assert list(pace.verdict([first, second])) == [
        "CPU time a step in minute 2: +50.0% of the first",
        "memory in minute 2: +10.0% of the first",
    ]


def test_what_is_not_training_is_added_up(tmp_path, monkeypatch):
    """Of a run that recorded 8 s of training and 2 s before it."""
    spent = {"start": 2.0, "training": 8.0}

    def run(command, cwd, env, check):
        assert env["GLAM_KERNELS"] == "avx2"
        (folder,) = [word for word in command if word.startswith("runs_dir=")]
        assert re.fullmatch(r"[^= ]+=[^= ]+", folder)  # Hydra reads another = as its own
        place = tmp_path / folder.removeprefix("runs_dir=") / "run"
        place.mkdir(parents=True)
        phases = {name: {"wall": s, "cpu": s, "times": 1} for name, s in spent.items()}
        (place / "seconds.json").write_text(json.dumps({"sha256": "", **phases}))

    clock = iter([0.0, 10.0] * 2)
    monkeypatch.setattr(run_time.subprocess, "run", run)
    monkeypatch.setattr(run_time.time, "perf_counter", lambda: next(clock))
    used = iter([0.0, 10.0] * 2)
    monkeypatch.setattr(run_time, "_cpu", lambda: next(used))
    rows = list(run_time.measure(tmp_path, "avx2"))
    assert [row["phase"] for row in rows[:3]] == ["start", "training", "outside"]
    assert next(iter(run_time.verdict(rows))) == (
        "fresh clone: 20.0% of the time is not training, 20.0% of the CPU time"
    )


def test_a_loss_is_printed_and_a_tie_is_no_win():
    about = {"work": "w", "shape": "s", "dtype": "d"}
    rows = [
        about | {"candidate": name, "ms": ms}
        for name, ms in (("glam", "2.0"), ("peer", "1.0"), ("twin", "1.02"))
    ]
    *_, line = table(rows)
    assert line == "| w | s | d | peer = twin | 1 | glam 2.00 |"
