"""A study on a cluster's executor: the same as here, also when a machine is taken or lost."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from glam.runs.folder import RunFolder
from glam.studies.launchers.remote import RemoteJob
from glam.studies.pool import Job

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("grid"),
    pytest.mark.skipif(
        importlib.util.find_spec("submitit") is None,
        reason="needs submitit",
    ),
]
BASIC, LAUNCHER = "hydra/launcher=basic", "hydra/launcher=submitit_local"
RAY = "hydra/launcher=ray"
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")
LAUNCHERS = [LAUNCHER, pytest.param(RAY, marks=needs_ray)]


def finish(command: list[str], **how) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=1200, **how)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_study_is_the_same_elsewhere_as_here(line, table, tmp_path, launcher):
    here, there = tmp_path / "here", tmp_path / "there"
    cells = ["model.num_experts=2,4", "seed=2,3"]
    ended = [
        finish([*line(here, *cells), BASIC]),
        finish([*line(there, *cells), launcher]),
    ]
    assert [one.returncode for one in ended] == [1, 1]
    last = [one.stderr.splitlines()[-1] for one in ended]
    assert last[0] == last[1]
    assert "num_experts=4, seed=3 (RuntimeError: poisoned)" in last[0]
    assert table(here) == table(there)
    again = finish([*line(there, *cells), launcher])
    assert "3 of 4 cells are done already" in again.stderr


# A queue that starts every job of an array at once, here.
SBATCH = f"""#!{sys.executable}
import os, pathlib, re, shutil, subprocess, sys
script = shutil.copy(sys.argv[1], pathlib.Path(__file__).with_name("submitted"))
last = re.search(r"#SBATCH --array=0-([0-9]+)", script.read_text())
one = dict(SLURM_NTASKS="1", SLURM_JOB_NUM_NODES="1", SLURM_NODEID="0", SLURM_PROCID="0")
for task in range(int(last[1]) + 1):
    ids = dict(SLURM_JOB_ID=str(78 + task), SLURM_ARRAY_JOB_ID="77", SLURM_ARRAY_TASK_ID=str(task))
    environment = {{**os.environ, **one, **ids, "SLURM_LOCALID": "0"}}
    nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    subprocess.Popen(["bash", script], env=environment, **nowhere)
print("Submitted batch job 77")
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do [[ $1 == --output || $1 == --error ]] && shift; shift; done
exec "$@"
"""
SACCT = f"#!{sys.executable}\nprint('JobID|State|NodeList')\n"


def test_slurm_is_asked_for_what_the_cells_need_and_its_study_is_the_same(line, table, tmp_path):
    here, there, bin = tmp_path / "here", tmp_path / "there", tmp_path / "bin"
    bin.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        (bin / name).write_text(text)
        (bin / name).chmod(0o755)
    slurm = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu"]
    path = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"}
    ended = finish([*line(there, "seed=1,2"), "hardware.threads=2", *slurm], env=path)
    assert ended.returncode == 0, ended.stderr
    asked = (bin / "submitted").read_text()
    for word in ("array=0-1%2", "cpus-per-task=2", "partition=gpu", "job-name=seed", "time=60"):
        assert f"#SBATCH --{word}" in asked
    assert finish([*line(here, "seed=1,2"), "hardware.threads=2", BASIC]).returncode == 0
    assert table(here) == table(there)


def test_a_machine_without_slurm_is_refused_in_one_line(line, tmp_path):
    ended = finish([*line(tmp_path / "runs", "seed=1,2"), "hydra/launcher=submitit_slurm"])
    assert ended.returncode == 2
    said = ended.stderr.splitlines()
    assert len(said) == 1
    assert said[0].startswith("error: hydra/launcher=submitit_slurm: this machine has no srun")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        ([LAUNCHER], "local job"),
        pytest.param([RAY, "hydra.launcher.max_retries=0"], "ray's task was lost", marks=needs_ray),
    ],
)
def test_a_job_that_the_cluster_lost_is_named_and_the_others_finish(
    line, table, tmp_path, launcher, words
):
    runs = tmp_path / "runs"
    ended = finish([*line(runs, "seed=1,13"), *launcher])
    assert ended.returncode == 1
    assert f"1 of 2 jobs failed: seed=13 ({words}" in ended.stderr.splitlines()[-1]
    assert [row["status"] for row in table(runs)] == ["done", "failed"]


@needs_ray
def test_ray_starts_a_task_anew_whose_process_was_lost_and_its_run_goes_on(line, table, tmp_path):
    runs = tmp_path / "runs"
    ended = finish([*line(runs, "seed=1,19"), RAY])
    assert ended.returncode == 0, ended.stderr
    assert [row["status"] for row in table(runs)] == ["done", "done"]
    [run] = runs.glob("*-s19-*")
    assert (run / "starts").read_text() == "started\n" * 2


@needs_ray
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("hydra.launcher.address=127.0.0.1:1", "hydra.launcher.address=127.0.0.1:1: no Ray there"),
        ("hydra.launcher.address=here:port", "('port' is no port); start one with"),
        ("hydra.launcher.cpus_per_task=500", "seed=1 asks for 500 CPUs"),
    ],
)
def test_a_ray_that_cannot_take_the_jobs_is_one_line(line, tmp_path, typed, said):
    ended = finish([*line(tmp_path / "runs", "seed=1,2"), RAY, typed])
    assert ended.returncode == 2
    [line] = [line for line in ended.stderr.splitlines() if not line.endswith(" …")]
    assert said in line
    assert not (tmp_path / "runs" / "studies").exists()


@needs_ray
def test_ctrl_c_ends_the_tasks_of_ray_which_save_themselves(line, table, tmp_path):
    runs = tmp_path / "runs"
    words = [*line(runs, "seed=23,24"), RAY]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, preexec_fn=hears_ctrl_c) as one:
        while not list(runs.glob("*-s23-*/checkpoints/saved.json")):
            assert one.poll() is None
            time.sleep(0.1)
        one.send_signal(signal.SIGINT)
        _, stderr = one.communicate(timeout=600)
    assert one.returncode == 130
    assert "unfinished; the same command resumes" in stderr
    assert "Traceback" not in stderr
    ended = finish(words)
    assert ended.returncode == 0, ended.stderr
    assert [row["status"] for row in table(runs)] == ["done", "done"]
    [run] = runs.glob("*-s23-*")
    assert (run / "starts").read_text() == "started\n" * 2


def hears_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_job_whose_machine_is_taken_saves_itself_and_is_queued_again(tmp_path):
    submitit = pytest.importorskip("submitit")
    code = """
    import json, pathlib, signal, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background ignores it; runs do not
    run = pathlib.Path(sys.argv[1])
    saved = run / "saved"
    if saved.exists():
        (run / "summary.json").write_text(json.dumps({"status": "done"}))
        sys.exit()
    try:
        (run / "started").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        saved.touch()
        sys.exit(130)
    """
    run = RunFolder(tmp_path / "a-id")
    command = [sys.executable, "-c", textwrap.dedent(code), str(run.path)]
    job = Job(name="a", command=command, run=run, threads=1, memory_bytes=1)
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster="local")
    executor.update_parameters(timeout_min=60)
    [handle] = executor.map_array(RemoteJob(), [job])
    while not (run.path / "started").exists():
        assert not handle.done()
        time.sleep(0.1)
    [process] = psutil.Process(int(handle.job_id)).children()
    process.send_signal(signal.SIGUSR2)  # as Slurm does before a machine is taken
    assert handle.result() == ("done", None)
    assert json.loads(run.summary_file.read_text()) == {"status": "done"}
    assert (run.path / "saved").exists()
