"""The embedded tasks at the end of a run."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glam.config import (
    ContaminationConfig,
    DataConfig,
    EvaluateTaskConfig,
    EvaluationConfig,
    FilterConfig,
    HardwareConfig,
    LocalCorpusConfig,
    LoggerConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
)
from glam.errors import UserError
from glam.machine.resources import resolve
from glam.runs.folder import RunFolder
from glam.tasks import train as training
from glam.tasks.evaluate import evaluate, load_suite
from glam.tasks.overlap import mark, overlap_of_text, text_here
from glam.tasks.prepare import prepare, prepared_text
from glam.tasks.train import train

WORDS = ["the old king", "a new road", "his ships", "one tower", "some grain", "all winds"]
ONE_TASK = EvaluationConfig(tasks=["agreement"], limit=20, tokens_per_domain=128, points=0)
VERBS = ["stood by", "looked like", "came before", "was worth", "held off", "knew of"]


def write_text(folder: Path) -> None:
    """Two domains, so that the task `domain`, which needs four, cannot be made."""
    folder.mkdir()
    for domain in ("posts", "books"):
        lines: list[str] = []
        for i in range(60):
            parts = [
                f"Then {WORDS[(i + j) % 6]} {VERBS[i * j % 6]} {WORDS[i * (j + 2) % 6]} {domain}."
                for j in range(16)
            ]
            lines.append(json.dumps({"text": " ".join(parts)}))
        (folder / f"{domain}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    home = tmp_path_factory.mktemp("home")
    write_text(home / "text")
    return RunConfig(
        model=ModelConfig(
            vocab_size=288, num_layers=2, d_model=16, d_ff=16, num_heads=2, num_experts=4
        ),
        data=DataConfig(
            corpus=LocalCorpusConfig(files=[str(home / "text")]),
            filter=FilterConfig(name="none"),
            held_out_fraction=0.4,
        ),
        training=TrainingConfig(sequence_length=32, batch_size=4, tokens=640),
        evaluation=EvaluationConfig(tokens_per_domain=128, points=0, limit=20),
        hardware=HardwareConfig(device="cpu", threads=1),
        logger=LoggerConfig(name="csv"),
        runs_dir=str(home / "runs"),
        cache_dir=str(home / "cache"),
    )


@pytest.fixture(scope="module")
def done(asked: RunConfig) -> RunFolder:
    train(asked, [])
    return RunFolder.of(asked, resolve(asked))


def tasks_of(run: RunFolder) -> dict[str, Any]:
    return (run.summary() or {})["tasks"]


def test_a_run_ends_with_its_tasks(done: RunFolder) -> None:
    [(suite, tasks)] = tasks_of(done).items()
    assert suite == "embedded-limit=20"
    assert {"continuation", "word_order"} <= set(tasks)
    assert "domain" not in tasks
    for task in tasks.values():
        assert task["low"] <= task["value"] <= task["high"]
        assert task["items"] == 20
        assert task["num_fewshot"] == 0
    saved = json.loads((done.path / "evaluation" / "embedded-limit=20.json").read_text())
    assert saved["missing"]["domain"] == "it needs 4 domains of held-out text, here are 2"
    page = done.report_file.read_text(encoding="utf-8")
    assert "word_order" in page


def test_a_run_that_was_killed_before_its_end_has_the_same_tasks_when_it_is_resumed(
    asked: RunConfig, done: RunFolder
) -> None:
    before = tasks_of(done)
    (done.path / "summary.json").unlink()
    train(asked, [])
    assert tasks_of(done) == before


def test_evaluated_again_the_scores_are_those_of_the_end_of_training(
    asked: RunConfig, done: RunFolder
) -> None:
    saved = done.path / "evaluation" / "embedded-limit=20.json"
    before = json.loads(saved.read_text())
    saved.unlink()
    evaluate(replace(asked, task=EvaluateTaskConfig(), run=str(done.path)), [])
    assert json.loads(saved.read_text())["scores"] == before["scores"]


def test_a_run_has_its_overlap_and_scores_of_the_items_without_any(done: RunFolder):
    found = json.loads((done.path / "overlap.json").read_text())
    assert found["removed"] is False
    assert set(found["suites"]) == {"held_out", "embedded"}
    assert (done.summary() or {})["overlap"] == found["suites"]
    saved = json.loads((done.path / "evaluation" / "embedded-limit=20.json").read_text())
    for score in saved["scores"]:
        row = found["suites"]["embedded"][score["task"]]
        assert row["items"] >= score["items"] == 20
        assert 20 - score["clean"]["items"] <= row["dirty"]
    assert "Overlap with evaluation sets" in done.report_file.read_text()


def test_tasks_change_no_id_and_no_weight(asked: RunConfig, done: RunFolder) -> None:
    without = replace(asked, evaluation=replace(asked.evaluation, name="held_out", limit=None))
    run = RunFolder.of(without, resolve(without))
    assert run.path == done.path
    weights = {path.name: path.read_bytes() for path in run.checkpoints.rglob("*.safetensors")}
    train(replace(without, rerun=True), [])
    assert tasks_of(run) == {}
    assert weights == {
        path.name: path.read_bytes() for path in run.checkpoints.rglob("*.safetensors")
    }


def test_no_run_is_lost_over_its_tasks(
    asked: RunConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(training, "judge_suite", fails)
    other = replace(asked, seed=1)
    train(other, [])
    run = RunFolder.of(other, resolve(other))
    assert tasks_of(run) == {}
    assert (run.summary() or {})["status"] == "done"
    said = capsys.readouterr().err
    assert "evaluation=embedded: no task was judged (RuntimeError: no such luck)" in said


@pytest.mark.parametrize("verb", [train, prepare])
def test_an_unknown_task_is_refused_before_a_run_trains(
    asked: RunConfig, verb: Callable[[RunConfig, list[str]], None]
) -> None:
    wrong = replace(asked, seed=2, evaluation=EvaluationConfig(tasks=["agreemnt"]))
    with pytest.raises(UserError, match=r"evaluation\.tasks=.*agreement"):
        verb(wrong, [])
    assert not RunFolder.of(wrong, resolve(wrong)).path.exists()


def test_where_all_text_overlaps_its_removal_is_refused(asked: RunConfig):
    data = replace(asked.data, contamination=ContaminationConfig(remove=True))
    with pytest.raises(UserError, match="leaves none of the 6 pages of webpages"):
        prepared_text(replace(asked, data=data))


def test_a_run_is_judged_where_its_text_is_not_in_the_cache_without_the_overlap(
    done: RunFolder, asked: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    config = replace(asked, cache_dir=str(tmp_path))
    assert text_here(config, done) is None
    assert "no overlap with its training text is shown (it is not in the cache" in caplog.text
    assert text_here(asked, done) is not None


def test_no_overlap_is_looked_for_where_none_is_asked_for(asked: RunConfig, done: RunFolder):
    data = replace(asked.data, contamination=ContaminationConfig(report=False))
    config = replace(asked, data=data)
    prepared = prepared_text(config)
    assert overlap_of_text(config, prepared) is None
    loaded = load_suite(config, prepared)
    assert mark(config, done, prepared.texts, loaded, config.evaluation) is loaded
