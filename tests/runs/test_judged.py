"""An evaluation adds to those before it, and loses none of them."""

import json
from pathlib import Path

import pytest

from glam.config import EvaluationConfig
from glam.runs.evaluations import by_task, name_of, read_items, read_suite
from glam.runs.folder import FollowersFolder, RunFolder
from glam.runs.judged import averages, keep

ASKED = {"all": {"over": ["arc", "piqa", "piqa/f1"], "column": "", "published": {}}}


def score(task, value=0.5, column="", metric="acc", digest="d"):
    return {
        "task": task, "metric": metric, "value": value, "stderr": 0.1, "low": 0.3, "high": 0.7,
        "chance": 0.25, "items": 20, "num_fewshot": 0, "column": column,
        "is_first": metric == "acc", "items_digest": digest,
    }  # fmt: skip


def judged(run, *scores, missing=(), suite="s"):
    """Keep an evaluation that found these scores."""
    items = [
        {"task": one["task"], "metric": one["metric"], "column": one["column"],
         "digest": one["items_digest"], "each": [one["value"]], "clusters": None}
        for one in scores
    ]  # fmt: skip
    raw = {
        one["column"]: {
            "results": {two["task"]: two["value"] for two in scores}, "date": len(scores)
        }
        for one in scores
    }  # fmt: skip
    saved = {
        "suite": suite, "scores": list(scores), "missing": dict.fromkeys(missing, "gone"),
        "averages": averages(ASKED, scores), "versions": {"torch": "2"},
    }  # fmt: skip
    keep(RunFolder(run), saved, {"suite": suite, "tasks": items}, raw)
    return read_suite(run, suite)


def keys(saved):
    return [(one["task"], one["column"]) for one in saved["scores"]]


def raw(run, name="s.lm_eval.json"):
    return json.loads((run / "evaluation" / name).read_text())


def test_other_demonstrations_are_columns_beside_those_that_are_there(tmp_path):
    judged(tmp_path, score("arc"), score("piqa"))
    saved = judged(tmp_path, *(score("arc", 0.1, f"{n}-shot") for n in (8, 0)))
    assert keys(saved) == [("arc", "0-shot"), ("arc", "8-shot"), ("arc", ""), ("piqa", "")]
    assert list(by_task(saved)) == ["arc, 0-shot", "arc, 8-shot", "arc", "piqa"]
    assert [one["column"] for one in read_items(tmp_path, "s")["tasks"]] == [
        "0-shot",
        "8-shot",
        "",
        "",
    ]
    assert raw(tmp_path)["results"] == {"arc": 0.5, "piqa": 0.5}
    assert raw(tmp_path, "s.8-shot.lm_eval.json")["results"] == {"arc": 0.1}


def test_other_tasks_are_rows_beside_those_that_are_there_and_averages_are_over_all(tmp_path):
    first = judged(tmp_path, score("arc", 0.2), missing=["piqa"])
    assert first["averages"]["all"]["value"] == 0.2
    saved = judged(tmp_path, score("piqa", 0.4), score("piqa", 0.9, metric="f1"), missing=["race"])
    assert keys(saved) == [("arc", ""), ("piqa", ""), ("piqa", "")]
    assert saved["averages"]["all"] == {
        **ASKED["all"], "value": pytest.approx(0.5), "tasks": 3, "of": 3
    }  # fmt: skip
    assert saved["missing"] == {"race": "gone"}
    assert raw(tmp_path) == {"results": {"arc": 0.2, "piqa": 0.9}, "date": 2}


def test_what_is_judged_again_on_the_same_items_takes_its_place(tmp_path):
    judged(tmp_path, score("arc", 0.2), score("piqa"))
    saved = judged(tmp_path, score("arc", 0.3))
    assert [one["value"] for one in saved["scores"]] == [0.3, 0.5]
    assert [one["each"] for one in read_items(tmp_path, "s")["tasks"]] == [[0.3], [0.5]]
    assert not (tmp_path / "evaluation" / "earlier").exists()


def test_scores_of_other_items_move_those_before_aside(tmp_path, caplog):
    judged(tmp_path, score("arc", 0.2, "8-shot"), score("piqa"))
    judged(tmp_path, score("arc", 0.9), suite="s.t")
    before = {file.name: file.read_bytes() for file in (tmp_path / "evaluation").glob("s.*json")}
    saved = judged(tmp_path, score("piqa", digest="e"))
    assert keys(saved) == [("piqa", "")]
    assert len(read_items(tmp_path, "s")["tasks"]) == 1
    earlier = tmp_path / "evaluation" / "earlier" / "1"
    assert {file.name for file in earlier.iterdir()} == {
        "s.json", "s.items.json", "s.lm_eval.json", "s.8-shot.lm_eval.json"
    }  # fmt: skip
    assert all(file.read_bytes() == before[file.name] for file in earlier.iterdir())
    assert "its items are others than before" in caplog.text
    judged(tmp_path, score("piqa", digest="f"))
    assert (earlier.parent / "2" / "s.json").is_file()
    assert keys(read_suite(tmp_path, "s.t")) == [("arc", "")]


@pytest.mark.parametrize("damage", ["{", "a folder"])
def test_a_file_that_cannot_be_read_is_moved_aside(tmp_path, caplog, damage):
    judged(tmp_path, score("arc", 0.2))
    file = tmp_path / "evaluation" / "s.json"
    if damage == "{":
        file.write_text(damage)
    else:
        file.unlink()
        file.mkdir()
    assert keys(judged(tmp_path, score("piqa"))) == [("piqa", "")]
    earlier = tmp_path / "evaluation" / "earlier" / "1"
    assert (earlier / "s.json").exists()
    assert json.loads((earlier / "s.items.json").read_text())["tasks"][0]["each"] == [0.2]
    assert "what is there cannot be read; the earlier files are now in" in caplog.text


def test_a_part_of_the_items_or_shorter_prompts_are_a_suite_of_their_own():
    names = [
        name_of("arc", EvaluationConfig(**asked))
        for asked in ({}, {"limit": 50}, {"limit": 5, "max_length": 99}, {"num_fewshot": [0]})
    ]
    assert names == ["arc", "arc-limit=50", "arc-limit=5-max_length=99", "arc"]


def test_a_follower_of_several_processes_writes_nothing(tmp_path: Path):
    saved = {"suite": "s", "scores": [], "missing": {}, "averages": {}}
    keep(FollowersFolder(tmp_path), saved, {"suite": "s", "tasks": []}, {})
    assert not list(tmp_path.iterdir())
