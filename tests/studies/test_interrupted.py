"""A study killed at random, jobs and all, ends as one that nobody disturbed."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("grid")]

CELLS = ["model.num_experts=1,2,4", "seed=0,1,2,3"]
POISONED = "num_experts=4, seed=3"


def finished(runs: Path) -> dict[str, tuple[str, str]]:
    """The cells that are done: their results, and how often each was started."""
    return {
        summary.parent.name: (summary.read_text(), (summary.parent / "starts").read_text())
        for summary in runs.glob("*/summary.json")
    }


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


def test_a_study_killed_at_random_ends_as_an_undisturbed_one(line, table, tmp_path):
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    # One after the other in one process, which is quicker and must be the same.
    undisturbed = subprocess.run(
        [*line(calm, *CELLS), "hydra/launcher=basic"], capture_output=True, text=True
    )
    assert undisturbed.returncode == 1
    chance, done = random.Random(0), {}
    for until in (2, 5, 8):
        disturbed(line(wild, *CELLS), wild, until, chance)
        assert done.items() <= finished(wild).items()
        done = finished(wild)
    for _ in range(2):  # the second: jobs killed last are tried again, those that are done not
        last = subprocess.run(line(wild, *CELLS), capture_output=True, text=True)
        assert done.items() <= finished(wild).items()
        done = finished(wild)
    assert last.returncode == 1
    assert last.stderr.splitlines()[-1] == (
        f"error: 1 of 12 jobs failed: {POISONED} (RuntimeError: poisoned); the same command "
        "runs only what is missing"
    )
    assert "Traceback" not in last.stderr
    assert len(done) == 11
    assert table(wild) == table(calm)
    [failed] = [row for row in table(wild) if row["status"] != "done"]
    assert failed["error"] == "RuntimeError: poisoned"
    failure = json.loads((wild / failed["run"] / "failure.json").read_text())
    assert "in chain" in failure["traceback"]
