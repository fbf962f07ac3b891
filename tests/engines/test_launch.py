"""`run.py hardware=cpu_node`: a line that is several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tasks")]

SMALL = [
    "model.d_model=16", "model.d_ff=32", "model.num_heads=2", "model.num_experts=4",
    "model.vocab_size=300", "training.tokens=10240", "training.sequence_length=32",
    "training.batch_size=4", "evaluation=held_out",
    "evaluation.points=2", "evaluation.tokens_per_domain=2000",
    "evaluation.tokens_per_point=500", "data/corpus=local", "logger=csv", "data=unfiltered",
]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    texts = [" ".join(f"buy {i} then {i * j % 89}" for j in range(60)) for i in range(120)]
    (folder / "web.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    return folder


def arguments(home, *more):
    places = [f"runs_dir={home / 'runs'}", f"cache_dir={home / 'cache'}"]
    corpus = f"data.corpus.files=[{home / 'web.jsonl'}]"
    return [sys.executable, str(ROOT / "run.py"), *SMALL, corpus, *places, *more]


def run(home, *more, status=0):
    result = subprocess.run(arguments(home, *more), capture_output=True, text=True, timeout=1200)
    assert result.returncode == status, result.stderr
    return result


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


ONE = ("hardware=cpu", "hardware.precision=float32", "hardware.threads=1")


@pytest.fixture(scope="module")
def done(home):
    """What the line said, and the run's folder."""
    said = run(home, "hardware=cpu_node")
    [folder] = (home / "runs").glob("glam_tiny-4e-unfiltered-s0-*")
    return said, folder


def test_the_line_trains_evaluates_and_reports_and_one_process_knows_the_run(home, done):
    said, folder = done
    for name in ("config.yaml", "metrics.csv", "report.html", "data.json", "generated.json"):
        assert (folder / name).stat().st_size > 0
    report = (folder / "report.html").read_text()
    assert "<h2>Layout</h2>" in report
    assert "ffn.experts.w_in_EMH" in report
    assert said.stdout.count("tokens/s") == 1  # one of the processes speaks
    assert "W1" not in said.stderr
    assert "is done already" in run(home, *ONE).stderr
    run(home, *ONE, f"runs_dir={home / 'one'}")
    [one] = (home / "one").glob("glam_tiny-*")
    assert one.name == folder.name
    assert summary(folder)["loss"] == pytest.approx(summary(one)["loss"], abs=0.01)


def test_a_rate_that_must_diverge_does_and_the_line_says_so_each_time(home):
    line = ["optimizer.learning_rate=1e15", "optimizer.eps=1e-30", "training.max_skipped=3"]
    for _ in range(2):
        assert "diverged" in run(home, "hardware=cpu_node", *line, status=1).stderr


def test_one_process_evaluates_what_several_saved(done):
    _, folder = done
    verb = ["task=evaluate", f"run={folder}", "hardware.precision=float32"]
    command = [sys.executable, str(ROOT / "run.py"), *verb, "evaluation.tokens_per_domain=2000"]
    subprocess.run(command, check=True, timeout=1200)
    found = json.loads((folder / "evaluation.json").read_text())
    assert found["loss"] == pytest.approx(summary(folder)["loss"], abs=1e-4)


def test_when_the_launcher_is_killed_the_processes_save_and_the_line_goes_on(home):
    tokens = 51200
    line = ["hardware=cpu_node", f"training.tokens={tokens}", "training.checkpoint_minutes=0.005"]
    before = set(home.glob("runs/*"))
    process = subprocess.Popen(arguments(home, *line), stderr=subprocess.PIPE, text=True)
    saved = "runs/*-s0-*/checkpoints/step-*/manifest.json"
    wait_for(lambda: [m for m in home.glob(saved) if m.parents[2] not in before][1:])
    process.kill()
    [folder] = set(home.glob("runs/*-s0-*")) - before
    _, said = process.communicate(timeout=600)  # the processes hold its stderr: they have ended
    assert "the same command resumes from step" in said
    left = max(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))
    run(home, *ONE, f"training.tokens={tokens}")
    assert summary(folder)["tokens"] == tokens
    assert 0 < left < tokens // 128


def test_a_signal_to_the_launcher_stops_all_after_their_step(home):
    line = ["hardware=cpu_node", "training.tokens=128000", "training.log_every=1", "seed=1"]
    process = subprocess.Popen(arguments(home, *line), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: [f for f in home.glob("runs/*-s1-*/metrics.csv") if f.stat().st_size > 2000])
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.count("the same command resumes from step") == 1
    assert "Traceback" not in said


def wait_for(happened):
    deadline = time.monotonic() + 600
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)
