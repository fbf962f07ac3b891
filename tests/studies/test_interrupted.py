"""A study killed at random, jobs and all, ends as one that nobody disturbed."""

import csv
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("grid")]

# All is real but the training: a chain of numbers, each made from the last that was saved.
RUN = f"""
import json, sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
import glam.cli.launch, glam.tasks
from glam.cli import main
from glam.runs import write_atomically

def chain(config, run, resources, prepared, energy):
    run.write_config(config)
    with (run.path / "starts").open("a") as starts:
        starts.write("started\\n")
    saved = run.checkpoints / "saved.json"
    run.checkpoints.mkdir(exist_ok=True)
    step, x = json.loads(saved.read_text()) if saved.exists() else (0, config.seed)
    while step < 12:
        if step == 6 and (config.model.num_experts, config.seed) == (4, 3):
            raise RuntimeError("poisoned")
        x = (x * 6364136223846793005 + config.model.num_experts) % 2**64
        step += 1
        write_atomically(saved, json.dumps([step, x]))
        time.sleep(0.05)
    loss = {{"mean": x / 2**64, "notes": x / 2**65}}
    found = {{"status": "done", "id": run.id, "seed": config.seed, "loss": loss, "tokens": step}}
    run.write_json("summary.json", {{**found, "train_seconds": time.monotonic()}})
    run.report_file.touch()

glam.cli.launch.ROOT = Path(__file__).parent
glam.tasks._prepared = lambda config: None
glam.tasks._train_to_the_end = chain
sys.exit(main(sys.argv[1:]))
"""
CELLS = ["model.num_experts=1,2,4,8", "seed=0,1,2,3,4,5"]
POISONED = "num_experts=4, seed=3"
TIMINGS = ("train_seconds", "tokens_per_second", "joules")


@pytest.fixture
def line(tmp_path):
    (tmp_path / "run.py").write_text(RUN)
    cache = f"cache_dir={tmp_path / 'cache'}"
    return lambda runs: [
        *(sys.executable, str(tmp_path / "run.py"), "-m", *CELLS),
        *("logger=csv", cache, f"runs_dir={runs}"),
    ]


def finished(runs: Path) -> dict[str, tuple[str, str]]:
    """The cells that are done: their results, and how often each was started."""
    return {
        summary.parent.name: (summary.read_text(), (summary.parent / "starts").read_text())
        for summary in runs.glob("*/summary.json")
    }


def table(runs: Path) -> list[dict[str, str]]:
    """study.csv, without what the clock says."""
    [file] = runs.glob("studies/*/study.csv")
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [{k: v for k, v in row.items() if not k.startswith(TIMINGS)} for row in rows]


def kill_one_job(grid: "subprocess.Popen[str]", chance: random.Random) -> bool:
    try:
        jobs = psutil.Process(grid.pid).children()
        chance.choice(jobs).kill()
    except (psutil.Error, IndexError):  # it has ended, or there is none
        return False
    return True


def disturbed(command: list[str], runs: Path, until: int, chance: random.Random) -> None:
    """Start the line, kill a few of its jobs, and itself when `until` cells are done."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True) as grid:
        kills = 2
        try:
            while len(finished(runs)) < until:
                assert grid.poll() is None
                time.sleep(chance.uniform(0.2, 1.0))
                if kills and chance.random() < 0.5:
                    kills -= kill_one_job(grid, chance)
        finally:
            grid.send_signal(signal.SIGKILL)


def test_a_study_killed_at_random_ends_as_an_undisturbed_one(line, tmp_path):
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    # One after the other in one process, which is quicker and must be the same.
    undisturbed = subprocess.run(
        [*line(calm), "hydra/launcher=basic"], capture_output=True, text=True
    )
    assert undisturbed.returncode == 1
    chance, done = random.Random(0), {}
    for until in (5, 11, 17):
        disturbed(line(wild), wild, until, chance)
        assert done.items() <= finished(wild).items()
        done = finished(wild)
    for _ in range(2):  # the second: jobs killed last are tried again, those that are done not
        last = subprocess.run(line(wild), capture_output=True, text=True)
        assert done.items() <= finished(wild).items()
        done = finished(wild)
    assert last.returncode == 1
    assert last.stderr.splitlines()[-1] == (
        f"1 of 24 jobs failed: {POISONED} (RuntimeError: poisoned); the same line again runs only "
        "what is missing"
    )
    assert "Traceback" not in last.stderr
    assert len(done) == 23
    assert table(wild) == table(calm)
    [failed] = [row for row in table(wild) if row["status"] != "done"]
    assert failed["error"] == "RuntimeError: poisoned"
    failure = json.loads((wild / failed["run"] / "failure.json").read_text())
    assert "in chain" in failure["traceback"]
