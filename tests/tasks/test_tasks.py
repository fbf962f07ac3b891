"""A run from the command line: what it leaves, how it is taken up again, and the other verbs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import glam

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tasks")]

SMALL = [
    "model.d_model=16", "model.d_ff=32", "model.num_heads=2", "model.num_experts=4",
    "model.vocab_size=300", "training.tokens=16000", "training.sequence_length=32",
    "training.batch_size=4", "evaluation=held_out",
    "evaluation.points=2", "evaluation.tokens_per_domain=2000",
    "evaluation.tokens_per_point=500", "data/corpus=local", "logger=csv",
]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A corpus of two sources, and room for runs."""
    folder = tmp_path_factory.mktemp("home")
    for name, word in (("web", "buy"), ("books", "thus")):
        lines = [
            json.dumps({"text": " ".join(f"{word} {i} then {i * j % 89}" for j in range(60))})
            for i in range(120)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def arguments(home: Path, *more: str) -> list[str]:
    corpus = [
        f"data.corpus.files=[{home / 'web.jsonl'}]",
        f"data.corpus.curated=[{home / 'books.jsonl'}]",
    ]
    places = [f"runs_dir={home / 'runs'}", f"cache_dir={home / 'cache'}"]
    return [sys.executable, str(ROOT / "run.py"), *SMALL, *corpus, *places, *more]


def run(home: Path, *more: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(arguments(home, *more), capture_output=True, text=True, timeout=1200)
    assert result.returncode == status, result.stderr
    return result


@pytest.fixture(scope="module")
def done(home):
    """A finished run's folder."""
    run(home)
    [folder] = (home / "runs").glob("glam_tiny-4e-filtered-s0-*")
    return folder


def verb(home: Path, done: Path, task: str, *more: str) -> str:
    places = [f"runs_dir={home / 'runs'}", f"cache_dir={home / 'cache'}"]
    line = [f"task={task}", f"run={done}", *places, *more]
    command = [sys.executable, str(ROOT / "run.py"), *line]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_run_leaves_what_the_contract_says(done):
    summary = json.loads((done / "summary.json").read_text())
    assert summary["status"] == "done"
    assert done.name.endswith(summary["id"])
    assert set(summary["loss"]) == set(summary["bits_per_byte"]) == {"mean", "web", "books"}
    assert summary["loss"]["mean"] == pytest.approx(
        (summary["loss"]["web"] + summary["loss"]["books"]) / 2
    )
    assert summary["tokens"] == 16_000
    assert summary["energy"]["joules"] > 0
    assert summary["energy"]["source"]
    assert [row["layer"] for row in summary["load"]] == [1, 3]
    assert set(summary["flops_per_token"]) == {"forward", "active"}
    for key in ("config_fingerprint", "data_fingerprint", "git", "versions", "tokens_per_second"):
        assert key in summary
    text = json.loads((done / "data.json").read_text())
    assert text["text_fingerprint"] == summary["text_fingerprint"] != ""
    for name in ("config.yaml", "metrics.csv", "report.html", "data.json", "generated.json"):
        assert (done / name).stat().st_size > 0
    assert (done / "report.html").stat().st_size < 1_500_000


def test_a_finished_run_is_skipped_at_once_and_says_where_its_report_is(home, done):
    before = (done / "summary.json").stat().st_mtime_ns
    result = run(home)
    assert "is done already" in result.stderr
    assert str(done / "report.html") in result.stdout.replace("\n", "")
    assert (done / "summary.json").stat().st_mtime_ns == before


def test_a_finished_run_warns_when_its_evaluation_would_be_another(home, done):
    result = run(home, "evaluation.tokens_per_domain=1000")
    assert "warning: evaluation differs" in result.stderr


def test_a_report_that_is_missing_is_written_when_the_run_is_asked_for_again(home, done):
    (done / "report.html").unlink()
    run(home)
    assert (done / "report.html").exists()


def test_evaluate_gives_the_losses_of_the_run_or_those_on_other_text(home, done):
    verb(home, done, "evaluate", "evaluation.tokens_per_domain=500")
    fewer = json.loads((done / "evaluation.json").read_text())
    verb(home, done, "evaluate")
    found = json.loads((done / "evaluation.json").read_text())
    assert found["loss"] == json.loads((done / "summary.json").read_text())["loss"]
    assert found["loss"] != fewer["loss"]


def test_evaluate_refuses_another_model_than_the_runs(home, done):
    command = [sys.executable, str(ROOT / "run.py"), "task=evaluate", f"run={done}"]
    result = subprocess.run([*command, "model=glam_100m"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "model=glam_100m: task=evaluate takes model from run=" in result.stderr


def test_generate_continues_the_prompt_the_same_way_each_time(home, done):
    greedy = ["task.prompt=buy 7 then", "task.temperature=0", "task.samples=1", "task.max_tokens=9"]
    first = verb(home, done, "generate", *greedy)
    assert first.startswith("buy 7 then")
    assert first == verb(home, done, "generate", *greedy)


def test_report_is_written_anew(home, done):
    (done / "report.html").write_text("old")
    assert str(done / "report.html") in verb(home, done, "report")
    assert (done / "report.html").stat().st_size > 10_000


def test_list_shows_the_run_with_what_became_of_it(home, done):
    line = [sys.executable, str(ROOT / "run.py"), "task=list", f"runs_dir={home / 'runs'}"]
    said = subprocess.run(line, capture_output=True, text=True, check=True, timeout=1200).stdout
    assert done.name.rsplit("-", 1)[-1] in said
    assert "done" in said


def test_loaded_in_python_a_run_continues_a_prompt_and_judges_text(done):
    loaded = glam.load(done, device="cpu")
    greedy = [loaded.generate("buy 7 then", max_tokens=9, temperature=0) for _ in range(2)]
    assert greedy[0] == greedy[1] != ""
    like, unlike = loaded.loss("buy 3 then buy 3 then"), loaded.loss("Quoth Zarathustra: VIXEN!")
    assert like.bits_per_byte < unlike.bits_per_byte
    assert like.bytes == len("buy 3 then buy 3 then")


def test_a_run_that_diverges_is_a_result_with_status_one(home):
    line = ["optimizer.learning_rate=1e15", "training.max_skipped=3", "optimizer.eps=1e-30"]
    result = run(home, *line, status=1)
    assert "diverged" in result.stderr
    [summary] = [
        s
        for f in home.glob("runs/*/summary.json")
        if (s := json.loads(f.read_text()))["status"] == "diverged"
    ]
    assert summary["loss"] == {}
    again = run(home, *line, status=1)
    assert "is done already" in again.stderr


def test_killed_in_mid_training_the_same_line_ends_as_if_undisturbed(home):
    line = ["training.tokens=64000", "training.checkpoint_minutes=0.005"]
    undisturbed = run(home, *line, f"runs_dir={home / 'whole'}")
    assert undisturbed.returncode == 0
    process = subprocess.Popen(arguments(home, *line, f"runs_dir={home / 'cut'}"))
    deadline = time.monotonic() + 600
    while not list(home.glob("cut/*/checkpoints/step-*/manifest.json")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(home.glob("cut/*/summary.json"))
    again = run(home, *line, f"runs_dir={home / 'cut'}")
    assert "resuming from step" in again.stderr
    assert "resuming" not in undisturbed.stderr
    [whole], [cut] = home.glob("whole/*/summary.json"), home.glob("cut/*/summary.json")
    assert json.loads(whole.read_text())["loss"] == json.loads(cut.read_text())["loss"]


@pytest.fixture(scope="module")
def offline(home):
    """A run whose user asked for W&B and has no key: its name, and those of its sessions."""
    environment = {**os.environ, "WANDB_MODE": "online", "HOME": str(home)}
    environment.pop("WANDB_API_KEY", None)
    command = arguments(home, "logger=wandb", *ANOTHER)
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=True, timeout=1200)
    [folder] = home.glob("runs/*-s6-*")
    return folder.name, [session.name for session in folder.glob("wandb/offline-run-*")]


ANOTHER = ("seed=6", "training.tokens=4000")


def test_wandb_offline_is_one_run_with_our_id_and_no_prompt(offline):
    name, [session] = offline
    assert session.endswith(name.rsplit("-", 1)[-1])


def test_rerun_moves_the_old_run_aside(home, offline):
    name, _ = offline
    run(home, *ANOTHER, "rerun=true")
    assert {folder.name for folder in home.glob("runs/*-s6-*")} == {name, f"{name}.old1"}
