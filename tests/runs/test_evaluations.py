"""Scores of tasks in the folder of a run."""

import pytest

from glam.runs.evaluations import ITEMS, by_task, file_of, read_items, read_suites
from glam.runs.folder import RunFolder

SCORE = {
    "task": "arc", "metric": "acc", "value": 0.5, "stderr": 0.1, "low": 0.3, "high": 0.7,
    "chance": 0.25, "items": 20, "num_fewshot": 0, "column": "", "is_first": True,
    "items_digest": "d",
}  # fmt: skip


def suite(name, *scores):
    return {"suite": name, "scores": list(scores), "missing": {}, "averages": {}, "versions": {}}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "evaluation").mkdir()
    folder = RunFolder(tmp_path)
    folder.write_json(file_of("b/c"), suite("b/c", SCORE))
    folder.write_json(file_of("a"), suite("a", SCORE))
    items = {"task": "arc", "metric": "acc", "column": "", "digest": "d", "each": [0, 1.5]}
    folder.write_json(file_of("a", ITEMS), {"suite": "a", "tasks": [{**items, "clusters": None}]})
    folder.write_plain_json(file_of("a", ".8-shot.lm_eval.json"), {"results": {}})
    return tmp_path


def test_every_suite_is_read_and_no_other_file(run):
    assert [saved["suite"] for saved in read_suites(run)] == ["a", "b/c"]
    assert read_suites(run / "nothing") == []


def test_the_items_of_a_suite_are_read(run):
    assert read_items(run, "a")["tasks"][0]["each"] == [0, 1.5]
    assert read_items(run, "b/c") is None


def test_a_suite_that_was_changed_is_left_out_with_a_warning(run, caplog):
    file = run / file_of("a")
    file.write_text(file.read_text().replace("0.5", "0.9"))
    assert [saved["suite"] for saved in read_suites(run)] == ["b/c"]
    assert "it was changed after it was written" in caplog.text


def test_a_task_at_several_numbers_of_demonstrations_stands_there_once_for_each():
    other = {**SCORE, "metric": "acc_norm", "is_first": False}
    found = by_task(suite("a", *({**SCORE, "column": c} for c in ("0-shot", "8-shot")), other))
    assert list(found) == ["arc, 0-shot", "arc, 8-shot"]
    assert found["arc, 0-shot"]["value"] == 0.5
