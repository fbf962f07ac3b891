"""A grid as it is typed: checked first, run apart, killed, and taken up again."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("grid")]

TINY = [
    "model.d_model=16", "model.d_ff=32", "model.num_heads=2", "model.vocab_size=300",
    "training.tokens=12800", "training.sequence_length=32", "training.batch_size=4",
    "evaluation=held_out",
    "evaluation.points=2", "evaluation.tokens_per_domain=2000", "evaluation.tokens_per_point=500",
    "data/corpus=local", "data=unfiltered", "logger=csv",
]  # fmt: skip


@pytest.fixture
def line(tmp_path):
    """Arguments that keep everything in the test's own folder, on a corpus of its own."""
    for name in ("notes", "letters"):
        texts = [
            {"text": " ".join(f"{name} {i} says word {i * j % 97}" for j in range(40))}
            for i in range(60)
        ]
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(text) + "\n" for text in texts))
    files = f"data.corpus.files=[{tmp_path / 'notes.jsonl'},{tmp_path / 'letters.jsonl'}]"
    places = [f"runs_dir={tmp_path / 'runs'}", f"cache_dir={tmp_path / 'cache'}"]
    return [sys.executable, str(ROOT / "run.py"), *TINY, files, *places]


def rows(tmp_path: Path) -> dict[str, dict[str, str]]:
    [study] = (tmp_path / "runs" / "studies").iterdir()
    with (study / "study.csv").open(newline="") as file:
        return {row["model.num_experts"]: row for row in csv.DictReader(file)}


def finish(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=1200)


def job_of(grid: "subprocess.Popen[str]", experts: int) -> psutil.Process | None:
    """The grid's own process for that cell, and nobody else's."""
    for process in psutil.Process(grid.pid).children():
        if f"-{experts}e-" in process.cmdline()[-1]:
            return process
    return None


@contextmanager
def started(command: list[str]) -> Generator["subprocess.Popen[str]"]:
    """A grid in a session of its own, ended with the test whatever becomes of it."""
    grid = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests that run in a shell's background would hand down an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with grid:
        try:
            yield grid
        finally:
            grid.kill()


def wait_for(condition, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_bad_cell_refuses_the_line_before_anything_is_made(line, tmp_path):
    result = finish([*line, "-m", "model.num_experts=4,abc"])
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_grid_leaves_a_table_a_page_and_a_figure_and_is_skipped_the_next_time(line, tmp_path):
    first = finish([*line, "-m", "model.num_experts=4,1"])
    assert first.returncode == 0, first.stderr
    assert {k: r["status"] for k, r in rows(tmp_path).items()} == {"1": "done", "4": "done"}
    [study] = (tmp_path / "runs" / "studies").iterdir()
    for name in ("study.html", "loss_by_experts.png", "loss_by_experts.svg"):
        assert (study / name).stat().st_size > 1000
    written = {f: f.stat().st_mtime_ns for f in tmp_path.glob("runs/*/summary.json")}
    again = finish([*line, "-m", "model.num_experts=1,4"])
    assert again.returncode == 0
    assert "2 of 2 cells are done already" in again.stderr
    assert written == {f: f.stat().st_mtime_ns for f in tmp_path.glob("runs/*/summary.json")}


def test_a_killed_job_fails_alone_and_the_same_line_resumes_it(line, tmp_path):
    command = [*line, "training.tokens=64000", "training.checkpoint_minutes=0.005", "-m"]
    command.append("model.num_experts=2,4")

    def saved() -> bool:
        return any(tmp_path.glob("runs/*-4e-*/checkpoints/step-*/manifest.json"))

    with started(command) as grid:
        wait_for(saved)
        victim = job_of(grid, 4)
        assert victim is not None
        victim.send_signal(signal.SIGKILL)
        _, stderr = grid.communicate(timeout=1200)
    assert grid.returncode == 1
    assert "num_experts=4 (killed by SIGKILL)" in stderr
    seen = rows(tmp_path)
    assert (seen["2"]["status"], seen["4"]["status"]) == ("done", "failed")
    assert seen["4"]["error"] == "killed by SIGKILL"
    again = finish(command)
    assert again.returncode == 0, again.stderr
    assert "1 of 2 cells are done already" in again.stderr
    assert {r["status"] for r in rows(tmp_path).values()} == {"done"}


def test_ctrl_c_stops_everything_and_says_how_to_go_on(line, tmp_path):
    command = [*line, "training.tokens=3000000", "-m", "model.num_experts=2,4"]
    with started(command) as grid:
        wait_for(lambda: len(list(tmp_path.glob("runs/*/metrics.csv"))) == 2)
        jobs = [job_of(grid, 2), job_of(grid, 4)]
        os.kill(grid.pid, signal.SIGINT)
        _, stderr = grid.communicate(timeout=600)
    assert grid.returncode == 130
    assert "the same command resumes" in stderr
    assert "Traceback" not in stderr
    assert [job is not None and job.is_running() for job in jobs] == [False, False]
