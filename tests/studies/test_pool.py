"""Jobs in processes of their own: one that dies takes no other with it."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack

import psutil
import pytest

from glam.errors import Stopped
from glam.runs.folder import RunFolder
from glam.studies import pool
from glam.studies.pool import Job, run_jobs

FINISH = """
import json, pathlib, sys
pathlib.Path(sys.argv[1], "summary.json").write_text(json.dumps({"status": "done"}))
"""


@pytest.fixture
def job(tmp_path):
    def make(name: str, code: str, **fields) -> Job:
        run = RunFolder(tmp_path / f"{name}-id")
        command = [sys.executable, "-c", textwrap.dedent(code), str(run.path)]
        defaults = {"threads": 1, "memory_bytes": 1}
        return Job(name=name, command=command, run=run, **{**defaults, **fields})

    return make


def test_a_killed_job_is_named_and_the_others_finish(job):
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    jobs = [job("a", kill), job("b", FINISH), job("c", FINISH)]
    run_jobs(jobs, watch=lambda: None)
    assert [j.state for j in jobs] == ["failed", "done", "done"]
    assert jobs[0].error == "killed by SIGKILL"
    assert json.loads(jobs[0].run.failure_file.read_text())["error"] == "killed by SIGKILL"


def test_a_job_that_refuses_says_why_in_its_own_words(job):
    failing = job("a", "import sys; sys.exit('data.corpus.files=[x]: no such file')")
    run_jobs([failing], watch=lambda: None)
    assert failing.error == "data.corpus.files=[x]: no such file"


def test_a_job_that_left_a_failure_is_quoted(job):
    code = """
    import json, pathlib, sys
    pathlib.Path(sys.argv[1], "failure.json").write_text(json.dumps({"error": "OSError: disk"}))
    sys.exit(1)
    """
    failing = job("a", code)
    run_jobs([failing], watch=lambda: None)
    assert failing.error == "OSError: disk"


def test_a_diverged_job_is_a_result(job):
    diverged = job("a", FINISH.replace("done", "diverged"))
    run_jobs([diverged], watch=lambda: None)
    assert (diverged.state, diverged.error) == ("diverged", None)


def hold(run: RunFolder) -> ExitStack:
    """As another process would: a lock counts per open file."""
    run.path.mkdir()
    held = ExitStack()
    held.enter_context(run.lock())
    return held


def test_what_another_process_finishes_is_this_grids_result_too(job):
    held, free = job("a", "import sys; sys.exit('started')"), job("b", FINISH)
    others = hold(held.run)

    def watch() -> None:
        if free.state == "done" and held.state == "waiting":
            held.run.write_json("summary.json", {"status": "done"})
            others.close()

    run_jobs([held, free], watch)
    assert [(j.state, j.error) for j in (held, free)] == [("done", None), ("done", None)]
    assert not held.log_file.exists()


def test_what_another_process_leaves_unfinished_is_taken_up(job):
    held = job("a", FINISH)
    others = hold(held.run)
    run_jobs([held], watch=others.close)
    assert held.state == "done"
    assert held.log_file.exists()


def test_a_job_that_comes_a_moment_late_waits_for_the_other(job):
    """Both saw the run free; the one that locks it second leaves it to the first."""
    late = job("a", "import sys; sys.exit(2)")
    with ExitStack() as others:

        def watch() -> None:
            if late.state == "running" and not late.taken_over:
                others.enter_context(late.run.lock())
            elif late.state == "waiting":
                late.run.write_json("summary.json", {"status": "done"})
                others.close()

        run_jobs([late], watch)
    assert (late.state, late.error) == ("done", None)
    assert not late.run.failure_file.exists()


def test_a_full_disk_fails_its_jobs_one_by_one_and_is_named(job, monkeypatch):
    def full(self: RunFolder, error: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RunFolder, "write_failure", full)
    jobs = [job("a", "import sys; sys.exit(1)"), job("b", FINISH)]
    run_jobs(jobs, watch=lambda: None)
    assert [j.state for j in jobs] == ["failed", "done"]
    assert jobs[0].error == f"exit status 1; {jobs[0].run.path.parent}: No space left on device"


def peak(jobs: list[Job]) -> int:
    """The most jobs that ran at once."""
    seen = [0]
    run_jobs(jobs, watch=lambda: seen.append(sum(j.state == "running" for j in jobs)))
    return max(seen)


SLOW = "import time; time.sleep(1.0)" + FINISH


@pytest.mark.parametrize(("cores", "threads", "at_once"), [(2, 1, 2), (2, 2, 1), (4, 1, 4)])
def test_as_many_run_at_once_as_there_are_cores(job, monkeypatch, cores, threads, at_once):
    monkeypatch.setattr(pool, "num_cores", lambda: cores)
    assert peak([job(f"j{i}", SLOW, threads=threads) for i in range(4)]) == at_once


def test_memory_holds_back_what_would_not_fit_beside_the_others(job, monkeypatch):
    monkeypatch.setattr(pool, "num_cores", lambda: 8)
    monkeypatch.setattr(pool, "memory_bytes", lambda: 1000)
    assert peak([job(f"j{i}", SLOW, memory_bytes=400) for i in range(4)]) == 2


def test_so_does_the_memory_of_the_device_that_they_share(job, monkeypatch):
    """A GPU, or as much of a machine as hardware.memory_gb says."""
    monkeypatch.setattr(pool, "num_cores", lambda: 8)
    jobs = [job(f"j{i}", SLOW, memory_bytes=400, device_bytes=1000) for i in range(4)]
    assert peak(jobs) == 2


def test_a_job_too_large_for_company_runs_alone(job, monkeypatch):
    monkeypatch.setattr(pool, "memory_bytes", lambda: 1000)
    assert peak([job(f"j{i}", SLOW, memory_bytes=5000) for i in range(2)]) == 1


def test_max_jobs_is_obeyed(job, monkeypatch):
    monkeypatch.setattr(pool, "num_cores", lambda: 8)
    assert peak([job(f"j{i}", SLOW, max_jobs=1) for i in range(2)]) == 1


def test_ctrl_c_stops_every_job_and_says_how_to_go_on(job, monkeypatch):
    monkeypatch.setattr(pool, "PATIENCE", 2.0)
    jobs = [job(f"j{i}", "import time; time.sleep(60)") for i in range(2)]

    def ctrl_c() -> None:
        if all(j.state == "running" and time.monotonic() - j.began > 0.5 for j in jobs):
            raise KeyboardInterrupt

    monkeypatch.setattr(pool, "num_cores", lambda: 2)
    with pytest.raises(KeyboardInterrupt, match="2 of 2 jobs unfinished; the same command"):
        run_jobs(jobs, watch=ctrl_c)
    assert {j.state for j in jobs} == {"stopped"}
    assert all(j.process.poll() is not None for j in jobs)


def test_a_grid_that_a_signal_stops_names_it(job, monkeypatch):
    """A scheduler reads the exit status: 143 after SIGTERM, 129 after SIGHUP."""
    monkeypatch.setattr(pool, "PATIENCE", 5.0)

    def sigterm() -> None:
        if one.state == "running":
            raise Stopped(number=signal.SIGTERM)

    one = job("j", "import time; time.sleep(60)")
    with pytest.raises(Stopped, match="1 of 1 job unfinished; the same command") as stopped:
        run_jobs([one], watch=sigterm)
    assert stopped.value.number == signal.SIGTERM
    assert one.process.poll() is not None  # it was passed on


def test_what_a_job_was_told_to_run_is_removed_when_it_has_ended(job):
    one = job("j", "import sys")
    one.cell = {"config": {}, "overrides": []}
    run_jobs([one], watch=lambda: None)
    assert not pool.cell_file(one.run).exists()


@pytest.mark.slow
def test_jobs_end_when_the_grid_is_killed(tmp_path):
    code = f"""
    import sys
    from glam.runs.folder import RunFolder
    from glam.studies.pool import Job, run_jobs
    from pathlib import Path
    inner = (
        "import os, time; from pathlib import Path;"
        "from glam.machine.parent_watch import watch_parent; watch_parent();"
        "Path({str(tmp_path)!r}, 'pid').write_text(str(os.getpid())); time.sleep(60)"
    )
    run = RunFolder(Path({str(tmp_path)!r}, "a-id"))
    command = [sys.executable, "-c", inner]
    run_jobs([Job(name="a", command=command, run=run, threads=1, memory_bytes=1)], lambda: None)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    pid_file = tmp_path / "pid"
    while not pid_file.exists() or not pid_file.read_text():
        time.sleep(0.05)
    child = int(pid_file.read_text())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 100
    while psutil.pid_exists(child) and time.monotonic() < deadline:
        if psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.05)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
