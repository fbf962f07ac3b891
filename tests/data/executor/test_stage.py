"""A stage makes what the cache lacks, on every executor the same."""

import importlib.util
import sys
from functools import partial
from pathlib import Path

import pytest

from glam.config import DataConfig
from glam.data.cache import Cache
from glam.data.executor import StageTask, executor_of, run_stage
from glam.errors import JobFailedError, UserError

sys.path.insert(0, str(Path(__file__).parent))  # for the processes too

import executor_tasks

needs_datatrove = pytest.mark.skipif(
    importlib.util.find_spec("datatrove") is None, reason="needs datatrove"
)
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")
cluster = pytest.mark.slow  # starts jobs, each with datatrove

# A queue that runs every task of an array at once, here, and knows them until they end.
SBATCH = f"""#!{sys.executable}
import os, pathlib, re, shutil, subprocess, sys
here = pathlib.Path(__file__).parent
arguments = [one for one in sys.argv[1:] if one.startswith("--")]
export = dict(re.findall(r"(RUN_OFFSET)=([0-9]+)", " ".join(arguments)))
script = shutil.copy(sys.argv[-1], here / "submitted")
first, last = re.search(r"#SBATCH --array=([0-9]+)-([0-9]+)", open(script).read()).groups()
number = len(list(here.glob("array-*"))) + 1
processes = []
for task in range(int(first), int(last) + 1):
    ids = dict(SLURM_ARRAY_TASK_ID=str(task), SLURM_JOB_ID=str(task), SLURM_NODELIST="here")
    log = (here / f"log-{{number}}-{{task}}").open("w")
    one = subprocess.Popen(["bash", script], env={{**os.environ, **export, **ids}}, stdin=-3,
                           stdout=log, stderr=log)
    processes.append(str(one.pid))
(here / f"array-{{number}}").write_text(" ".join(processes))
print("Submitted batch job", number)
"""
SQUEUE = f"""#!{sys.executable}
import pathlib, sys
for number in sys.argv[-1].split(","):
    for process in (pathlib.Path(__file__).parent / f"array-{{number}}").read_text().split():
        try:
            state = pathlib.Path(f"/proc/{{process}}/stat").read_text().split()[2]
        except OSError:
            continue
        if state != "Z":
            print(process, "RUNNING")
"""
SRUN = '#!/bin/bash\nwhile [[ $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done\nexec "$@"\n'
SCONTROL = "#!/bin/bash\necho here\n"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with a queue that starts everything here."""
    folder = tmp_path / "bin"
    folder.mkdir()
    programs = {"sbatch": SBATCH, "squeue": SQUEUE, "srun": SRUN, "scontrol": SCONTROL}
    for name, text in {**programs, "scancel": "#!/bin/bash\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr("glam.data.executor.slurm.SECONDS", 0.2)
    return folder


def stage(cache: Path, data: DataConfig, builds) -> list[Path]:
    tasks = [
        StageTask(inputs={"number": i}, build=build, size=10) for i, build in enumerate(builds)
    ]
    executor = executor_of(data, cache)
    return run_stage(executor, Cache(cache, needs=0), "test", tasks, "test", "things")


def squares(count: int) -> list:
    return [partial(executor_tasks.square, i) for i in range(count)]


def results(folders: list[Path]) -> list[bytes]:
    return [(folder / "square").read_bytes() for folder in folders]


EXPECTED = [str(i * i).encode() for i in range(5)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_for_every_task_in_their_order(tmp_path, workers):
    assert results(stage(tmp_path, DataConfig(workers=workers), squares(5))) == EXPECTED


def test_what_is_in_the_cache_is_not_made_again(tmp_path):
    stage(tmp_path, DataConfig(workers=1), squares(3))
    never = [executor_tasks.refuse_to_build] * 3
    assert results(stage(tmp_path, DataConfig(workers=1), never)) == EXPECTED[:3]
    with pytest.raises(UserError, match="nothing there"):
        stage(tmp_path, DataConfig(workers=1), [*never, executor_tasks.refuse_to_build])


@cluster
@needs_datatrove
def test_slurm_does_the_same_tasks_and_is_asked_for_what_they_need(tmp_path, slurm):
    data = DataConfig(executor="slurm")
    data.slurm.partition, data.slurm.options = "cpu", {"constraint": "skylake"}
    data.slurm.array_size = 2
    assert results(stage(tmp_path / "cache", data, squares(3))) == EXPECTED[:3]
    asked = (slurm / "submitted").read_text()
    for word in ("partition=cpu", "constraint=skylake", "mem-per-cpu=4G", "array=0-1%256"):
        assert f"#SBATCH --{word}" in asked
    assert "qos" not in asked
    assert len(list(slurm.glob("array-*"))) == 2


@cluster
@needs_datatrove
@pytest.mark.parametrize("lost", ["killed_once", "killed_with_its_job_once"])
def test_a_worker_of_slurm_that_is_killed_is_done_again(tmp_path, slurm, lost):
    kill = partial(getattr(executor_tasks, lost), tmp_path / "begun")
    folders = stage(tmp_path / "cache", DataConfig(executor="slurm"), [*squares(1), kill])
    assert results(folders[:1]) == EXPECTED[:1]
    assert (folders[1] / "square").read_text() == "done"
    assert (tmp_path / "begun").read_text() == "begun\n" * 2


@cluster
@needs_datatrove
def test_what_a_job_of_slurm_refuses_is_refused_here(tmp_path, slurm):
    with pytest.raises(UserError, match=r"^data.corpus: nothing there$"):
        stage(tmp_path / "cache", DataConfig(executor="slurm"), [executor_tasks.refuse_to_build])


@cluster
@needs_datatrove
def test_jobs_of_slurm_that_end_every_time_without_their_task_are_an_error(tmp_path, slurm):
    (slurm / "srun").write_text("#!/bin/bash\nexit 1\n")
    with pytest.raises(JobFailedError, match=r"2 of 2 tasks did not finish in 3 tries.*slurm_logs"):
        stage(tmp_path / "cache", DataConfig(executor="slurm"), squares(2))


@cluster
@needs_datatrove
def test_a_machine_without_slurm_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"data.executor=slurm: this machine has no sbatch"):
        stage(tmp_path, DataConfig(executor="slurm"), squares(1))


@cluster
@needs_ray
@pytest.mark.xdist_group("grid")
def test_ray_does_the_same_tasks_and_one_whose_process_is_killed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    kill = partial(executor_tasks.killed_once, tmp_path / "begun")
    folders = stage(tmp_path / "cache", DataConfig(executor="ray"), [*squares(2), kill])
    assert results(folders[:2]) == EXPECTED[:2]
    assert (tmp_path / "begun").read_text() == "begun\n" * 2
    with pytest.raises(UserError, match="nothing there"):
        stage(tmp_path / "other", DataConfig(executor="ray"), [executor_tasks.refuse_to_build])
