"""docs/extend.md: every example of the page, put into a copy of the repository, is known to the
command line, refuses what makes no sense, plans, trains, and passes its own test."""

import csv
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"^```\{code-block\} \w+\n:caption: (\S+)\n\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
EXAMPLES = dict(BLOCK.findall((ROOT / "docs" / "extend.md").read_text(encoding="utf-8")))
CHOICES = [
    *("optimizer=lion", "schedule=cosine", "model.router.balance_loss=importance"),
    *("model.dispatcher=every_expert", "data/corpus=table"),
]
# Runs lines of glam one after the other: a process takes longer to start than a line.
DRIVER = """
import contextlib, io, json, sys
from glam.cli import main

for line in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(line)
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


class Answer(NamedTuple):
    status: int
    out: str
    error: str


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the repository with the page's files, and a corpus for them."""
    copy = tmp_path_factory.mktemp("glam")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("glam", "conf", "hydra_plugins"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("run.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy / name)
    for name, text in EXAMPLES.items():
        file = copy / name
        file.parent.mkdir(parents=True, exist_ok=True)
        assert not file.exists()  # an example edits nothing
        file.write_text(text, encoding="utf-8")
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=draw.randint(2, 6))) for _ in range(60)]
    with (copy / "letters.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["body"])
        rows.writerows([" ".join(draw.choices(words, k=60))] for _ in range(200))
    return copy


def start(tree, *command, given=None):
    environment = {**os.environ, "COLUMNS": "200", "WANDB_MODE": "offline"}
    return subprocess.run(
        [sys.executable, *command],
        **{"cwd": tree, "env": environment, "input": given, "capture_output": True, "text": True},
    )


def answers(tree, *lines):
    done = start(tree, "-c", DRIVER, given=json.dumps([list(line) for line in lines]))
    assert done.returncode == 0, done.stderr
    return [Answer(*json.loads(line)) for line in done.stdout.splitlines()]


def test_the_page_has_an_example_with_a_test_for_every_kind():
    kinds = ("optimizers", "schedules", "balance_losses", "dispatchers", "corpora", "launchers")
    for kind in kinds:
        assert sum(name.startswith(f"glam/config/{kind}/") for name in EXAMPLES) == 1
        assert sum(name.startswith(f"tests/config/{kind}/") for name in EXAMPLES) == 1


def test_the_command_line_lists_explains_and_refuses(tree):
    refused = {
        ("optimizer=lion", "optimizer.beta1=2"): "optimizer.beta1=2.0 must lie between 0 and",
        ("optimizer=lion", "optimizer.beta1=much"): "optimizer.beta1=much: ",
        ("optimizer=lion", "optimizer.beta3=0.1"): "optimizer.beta3; did you mean",
        ("optimizer=lino",): "did you mean lion?",
        ("optimizer=lion", "training.update_in_backward=true"): "take optimizer=adafactor",
        ("optimizer=lion", "hardware=xla_cpu"): "hardware=xla_cpu does not support optimizer=lion",
        ("optimizer=lion", "hardware=cpu_node"): "try optimizer=adafactor or adamw",
        ("schedule=cosine", "schedule.final_fraction=3"): "schedule.final_fraction=3.0 must lie",
        ("model.router.balance_loss=important",): "did you mean importance?",
        ("model.dispatcher=every",): "choose from capacity, every_expert, grouped",
        ("data/corpus=table", "data.corpus.files=[absent.csv]", "logger=none"): "absent.csv is no",
        ("-m", "hydra/launcher=one_by_on", "seed=0"): "did you mean one_by_one?",
        ("-m", "hydra/launcher=one_by_one", "hydra.launcher.pause_s=9999"): "pause_s=9999",
    }
    brief, optimizer, *rest = answers(tree, ["--help"], ["--help", "optimizer"], *refused)
    for name in ("lion", "cosine", "importance", "every_expert", "table", "one_by_one"):
        assert name in brief.out
    assert "share of the momentum in an update" in optimizer.out
    assert "half of AdamW's state" in optimizer.out
    for (line, words), answer in zip(refused.items(), rest, strict=True):
        assert answer.status == 2, (line, answer)
        assert words in answer.error, (line, answer)
        assert answer.error.count("\n") == 1, (line, answer)


def test_a_plan_counts_with_them(tree):
    plan = ["task=plan", "task.format=json", "logger=none"]
    files = ["data/corpus=table", "data.corpus.files=[letters.csv]"]
    mine, static, adamw, grouped = answers(
        tree,
        [*plan, *CHOICES, *files],
        [*plan, "hardware=tpu_v4_8", "model.dispatcher=every_expert"],
        plan,
        [*plan, "hardware=tpu_v4_8"],
    )
    assert mine.status == static.status == 0, (mine, static)
    found, usual = json.loads(mine.out), json.loads(adamw.out)
    assert found["bytes_per_device"]["optimizer"] == found["bytes_per_device"]["weights"]
    assert usual["bytes_per_device"]["optimizer"] == 2 * usual["bytes_per_device"]["weights"]
    assert json.loads(static.out)["dispatcher"] == "every_expert"
    assert json.loads(grouped.out)["dispatcher"] == "capacity"


def test_no_example_imports_what_lies_above_it(tree):
    done = start(tree, "-c", "from importlinter.cli import lint_imports_command as lint; lint()")
    assert "Contracts: " in done.stdout, done.stderr
    assert "glam.config" not in done.stdout


@pytest.mark.slow
def test_a_grid_trains_with_all_of_them(tree):
    small = [
        *("model=glam_nano", "model.vocab_size=300", "training.tokens=8192", "logger=none"),
        *(
            "evaluation=held_out",
            "evaluation.tokens_per_domain=1024",
            "evaluation.points=1",
            "training.log_every=1",
        ),
        *("data.corpus.files=[letters.csv]", "data.corpus.column=body"),
    ]
    done = start(tree, "run.py", "-m", "hydra/launcher=one_by_one", "seed=0", *CHOICES, *small)
    assert done.returncode == 0, done.stderr
    (summary,) = (tree / "runs").glob("*/summary.json")
    assert json.loads(summary.read_text())["status"] == "done"
    with (summary.parent / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    losses = [float(row["loss"]) for row in rows]
    assert losses[-1] < losses[0]
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates[-1] == pytest.approx(0.1 * 0.002)  # the schedule's end, of Lion's peak
    assert all(0 <= float(row["balance_loss"]) < 0.01 for row in rows)


def test_their_own_tests_pass(tree):
    done = start(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert done.returncode == 0, done.stdout
    assert f"{sum(text.count('def test_') for text in EXAMPLES.values()) + 1} passed" in done.stdout
