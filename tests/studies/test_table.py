"""The live table says of every job what one wants to know."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from glam.runs.folder import RunFolder
from glam.studies.pool import Job
from glam.studies.table import LiveTable, study_seconds_left
from glam.units import clock


class Screen(io.StringIO):
    """What a terminal is given."""

    def isatty(self) -> bool:
        return True


def job(name: str, state: str, **progress) -> Job:
    made = Job(name=name, command=[], run=RunFolder(Path("x")), threads=1, memory_bytes=1)
    made.state, made.progress, made.seconds = state, progress, 60.0
    return made


def shown(jobs: list[Job], width: int = 120, **terminal) -> str:
    table = LiveTable(jobs)
    table.console = Console(file=Screen() if terminal else io.StringIO(), width=width, **terminal)
    table.console.print(table.render())
    return table.console.file.getvalue()


def test_a_running_job_shows_stage_loss_speed_and_time_left():
    figures = {
        "done": 5,
        "total": 10,
        "seconds_left": 75.0,
        "loss": 4.1234,
        "tokens_per_second": 26100.0,
    }
    text = shown([job("num_experts=8", "running", stage="train", **figures)])
    for word in ("num_experts=8", "train", "4.123", "26,100", "1:15"):
        assert word in text


def test_a_failed_job_shows_why():
    failed = job("num_experts=8", "failed")
    failed.error = "killed by SIGKILL"
    text = shown([failed, job("num_experts=16", "waiting")])
    assert "failed: killed by SIGKILL" in text
    assert "0 of 2 done, 1 failed" in text


def test_a_narrow_terminal_keeps_names_states_and_time_left_whole():
    training = {"stage": "train", "done": 1, "total": 2, "loss": 4.1, "tokens_per_second": 2e4}
    text = shown([job("num_experts=8, seed=0", "running", **training, seconds_left=75.0)], 40)
    for word in ("num_experts=8, seed=0", "train", "1:15", "0 of 1 done"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 40


def test_more_jobs_than_lines_show_those_that_run_and_failed():
    jobs = [job(f"seed={i}", "done") for i in range(100)]
    jobs[50].state, jobs[70].state = "running", "failed"
    text = shown(jobs, height=10, force_terminal=True, color_system=None)
    assert len(text.splitlines()) <= 10
    assert text.index("seed=50") < text.index("seed=70")
    assert "98 of 100 done, 1 failed" in text


def test_time_left_counts_the_waiting_jobs_as_long_as_the_others():
    training = {"stage": "train", "done": 1, "total": 2, "seconds_left": 40.0}
    jobs = [job("a", "running", **training), job("b", "running", **training)]
    assert study_seconds_left(jobs) == pytest.approx(40.0)
    waiting = [job("c", "waiting"), job("d", "waiting")]
    assert study_seconds_left([*jobs, *waiting]) == pytest.approx((80 + 2 * 100) / 2)


def test_nothing_is_promised_before_training_starts():
    preparing = job("a", "running", stage="tokenizer", done=1, total=2, seconds_left=5.0)
    assert study_seconds_left([preparing, job("b", "waiting")]) is None


@pytest.mark.parametrize(("seconds", "words"), [(5, "0:05"), (75, "1:15"), (3675, "1:01:15")])
def test_times_read_as_clocks(seconds, words):
    assert clock(seconds) == words


def test_without_a_terminal_each_change_is_one_line(capsys):
    running = job("a", "running")
    table = LiveTable([running])
    table.update()
    table.update()
    running.state, running.error = "failed", "disk full"
    table.update()
    assert capsys.readouterr().err.splitlines() == ["a: running", "a: failed: disk full"]


def test_colours_that_are_forced_move_no_table():
    table = LiveTable([job("seed=0", "running")])
    table.console = Console(file=io.StringIO(), force_terminal=True)
    with table:
        table.update()
    assert "\r" not in table.console.file.getvalue()
    assert "\x1b[?25l" not in table.console.file.getvalue()  # a cursor that is hidden
