"""Tasks that lm-eval brings, from a folder of data."""

import json

import datasets
import pytest

from glam.config import EvaluationConfig
from glam.errors import UserError
from glam.evaluation.suites import SUITES


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """ARC's easy questions in the hub's layout."""
    home = tmp_path_factory.mktemp("data")
    folder = home / "allenai" / "ai2_arc" / "ARC-Easy"
    folder.mkdir(parents=True)
    choices = {"text": ["water", "wood", "iron"], "label": ["A", "B", "C"]}
    lines = [
        json.dumps({"id": str(n), "question": f"What is ice number {n}?", "choices": choices,
                    "answerKey": "A"})
        for n in range(3)
    ]  # fmt: skip
    for split in ("train", "validation", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return home


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def load(data, *tasks):
    config = EvaluationConfig(name="lm_eval", tasks=list(tasks), data_dir=str(data))
    return SUITES["lm_eval"]().load(config, None)


def test_a_task_is_loaded_by_its_name(data):
    loaded = load(data, "arc_easy")
    assert loaded.name == "arc_easy"
    [task] = loaded.tasks.values()
    assert task.doc_to_text(task.eval_docs[0]).startswith("Question: What is ice number 0?")


def test_a_set_that_is_missing_is_named_and_the_others_go_on(data):
    loaded = load(data, "arc_easy", "piqa")
    assert list(loaded.tasks) == ["arc_easy"]
    assert loaded.missing == {
        "piqa": f"its data, baber/piqa, is not in {data} (no folder baber/piqa in it)"
    }


def test_where_no_task_has_its_data_nothing_is_judged(data):
    with pytest.raises(UserError, match="evaluation=piqa: nothing to judge; piqa: its data, baber"):
        load(data, "piqa")


def test_a_tag_stands_for_its_tasks_and_their_mean(data):
    folder = data / "allenai" / "ai2_arc"
    hard = folder / "ARC-Challenge"
    if not hard.exists():
        hard.symlink_to(folder / "ARC-Easy")
    loaded = load(data, "ai2_arc")
    assert set(loaded.tasks) == {"arc_easy", "arc_challenge"}
    [[name, tasks]] = loaded.averages.items()
    assert (name, set(tasks)) == ("ai2_arc", {"arc_easy", "arc_challenge"})


def test_without_a_task_the_way_out_is_said():
    with pytest.raises(UserError, match="type them in its place, for example evaluation=arc_easy"):
        load("nowhere")


def test_many_tasks_have_files_of_a_short_name(data, monkeypatch):
    from glam.evaluation.suites import lm_eval_tasks

    monkeypatch.setattr(lm_eval_tasks, "LONGEST_NAME", 4)
    assert load(data, "arc_easy").name.startswith("arc_-")


def test_items_are_questions_and_right_answers_numbered_as_documents(data):
    suite = SUITES["lm_eval"]()
    items = suite.items(load(data, "arc_easy"))
    assert items.suite == "arc_easy"
    assert [(one.task, one.number) for one in items.load()] == [("arc_easy", n) for n in range(3)]
    for number, one in enumerate(items.load()):
        assert one.stretches[0] == f"What is ice number {number}?"
        assert one.stretches[-1] == "water"
    assert items.key == suite.items(load(data, "arc_easy")).key
