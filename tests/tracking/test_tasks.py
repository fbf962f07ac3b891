"""Scores of tasks on W&B."""

import pytest
import toy

from glam.runs.evaluations import file_of
from glam.tracking import run as tracking
from glam.tracking import track_tasks
from glam.tracking.tasks import COLUMNS, task_figures, task_table

SCORE = {
    "task": "arc", "metric": "acc", "value": 0.5, "stderr": 0.1, "low": 0.3, "high": 0.7,
    "chance": 0.25, "items": 20, "num_fewshot": 0, "column": "", "is_first": True,
    "items_digest": "d",
}  # fmt: skip


@pytest.fixture
def judged(tmp_path):
    run = toy.folder(tmp_path)
    (run.path / "evaluation").mkdir(parents=True)
    scores = [SCORE, {**SCORE, "metric": "acc_norm", "is_first": False}]
    suite = {"suite": "s", "scores": scores, "missing": {}, "averages": {}, "versions": {}}
    run.write_json(file_of("s"), suite)
    return run


def test_a_table_has_a_row_for_each_metric(judged):
    table = task_table(judged.path)
    assert table.columns == list(COLUMNS)
    assert table.data[0] == ["s", "arc", "acc", "own", 0, 0.5, 0.1, 0.3, 0.7, 0.25, 20]
    assert [row[2] for row in table.data] == ["acc", "acc_norm"]
    assert task_table(judged.path / "nothing") is None


class Session:
    """What a run of wandb is asked to keep."""

    def __init__(self):
        self.summary, self.logged, self.is_finished = {}, {}, False

    def log(self, row):
        self.logged |= row

    def finish(self):
        self.is_finished = True


def test_scores_of_a_finished_run_go_to_its_entry(judged, monkeypatch):
    session, entries = Session(), []
    monkeypatch.setattr(tracking, "start", lambda _, __, entry: entries.append(entry) or session)
    track_tasks(toy.config(logger="wandb"), judged, toy.RESOURCES)
    assert [entry.id for entry in entries] == [judged.id]
    assert session.summary["final/tasks/s/arc/value"] == 0.5
    assert task_figures(judged.path)["s"]["arc"]["chance"] == 0.25
    assert len(session.logged["tasks"].data) == 2
    assert session.is_finished
    track_tasks(toy.config(logger="csv"), judged, toy.RESOURCES)
    assert len(entries) == 1
